"""How images look, in a few numbers each: what tells whether new ones are like those that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.texture import sharpness
from histoflow.data.moments import of_each

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]

_SIDE = 64
"""Pixels: of larger images, colours are looked at where pixels lie this many to a side, or a few more."""
_AT_ONCE = 24  # images: what is looked at of them stays in a core's cache
_GREY = (0.299, 0.587, 0.114)


def measures(channels: int) -> tuple[str, ...]:
    """What is measured of images with so many channels."""
    names = {1: (), 3: ("red", "green", "blue")}.get(
        channels, tuple(f"channel {number + 1}" for number in range(channels))
    )
    return (*names, "brightness", "contrast", *(("saturation",) if channels == 3 else ()), "sharpness")


def measured(images: Bytes) -> dict[str, Values]:
    """Of N×H×W×C images, N values for each of the ``measures``, none of them NaN.

    Colours are from 0 to 1. ``brightness`` is the mean of grey and ``contrast`` its standard deviation,
    ``saturation`` how far the channels of a pixel lie apart, ``sharpness`` the logarithm of the variance of
    the Laplacian.
    """
    parts = [_measured(images[start : start + _AT_ONCE]) for start in range(0, len(images), _AT_ONCE)]
    together = np.concatenate(parts, axis=1) if parts else np.empty((len(measures(images.shape[3])), 0))
    return dict(zip(measures(images.shape[3]), together, strict=True))


def _measured(images: Bytes) -> Values:
    """Measures × images."""
    _, height, width, channels = images.shape
    means = of_each(images).totals.T / (255 * height * width)
    planes = _spread(images)
    found = [_weights(channels) @ means, _grey(planes).std(axis=1) / 255]
    if channels == 3:
        found.append((planes.max(axis=0) - planes.min(axis=0)).mean(axis=1) / 255)
    told = means if channels != 1 else means[:0]
    return np.vstack([told, *found, sharpness(images)])


def _spread(images: Bytes) -> Bytes:
    """Channels × images × pixels that are spread over them."""
    down, across = (max(1, side // _SIDE) for side in images.shape[1:3])
    some = images[:, ::down, ::across].transpose(3, 0, 1, 2)
    return np.ascontiguousarray(some).reshape(*some.shape[:2], -1)


def _grey(planes: Bytes) -> NDArray[np.float32]:
    weights = _weights(len(planes)).astype(np.float32)
    grey: NDArray[np.float32] = planes[0] * weights[0]
    for plane, weight in zip(planes[1:], weights[1:], strict=True):
        grey += plane * weight
    return grey


def _weights(channels: int) -> Values:
    weights: Sequence[float] = _GREY if channels == 3 else (1 / channels,) * channels
    return np.array(weights)
