"""What is measured of an image only where a check looks at it: background, colours, sharpness and texture."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.planes import in_cache, spread
from histoflow.data.audit.texture import shares, sharpness_and_texture

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]

READ_AT_ONCE = 96
"""Images, which may be large."""
NEAR_WHITE, _UNSATURATED = 215, 25
"""Levels: the darkest channel of glass, and how far its channels differ."""


def look_closer(images: Bytes) -> dict[str, NDArray[Any]]:
    """Measurements of N×H×W×C images, by name; each array has N entries, and none is NaN.

    ==============  ==========  ==============================================================================
    background      N           share of pixels that are near white and without colour, as glass is
    sharpness       N           logarithm of the variance of the Laplacian of grey
    histogram       N×64        shares of 4×4×4 colours; of 64 levels, where there is one channel
    texture         N×14        shares of 10 local binary patterns, the same after right-angle turns; log
                                mean, log spread and log greatest of gradients, and their unevenness
    ==============  ==========  ==============================================================================

    ``background`` and ``histogram`` of large images are of pixels spread evenly, ``sharpness`` and
    ``texture`` of windows; both are such that a turned image is measured at the same places.
    """
    parts = [_look_closer(part) for part in in_cache(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _look_closer(images: Bytes) -> dict[str, NDArray[Any]]:
    pixels = spread(images)
    return {
        "background": _background(pixels),
        "histogram": _histogram(pixels),
        **sharpness_and_texture(images),
    }


def background(images: Bytes) -> Floats:
    """The one measurement alone."""
    return np.concatenate([_background(spread(part)) for part in in_cache(images)])


def _background(pixels: Bytes) -> Floats:
    darkest = pixels.min(axis=0)
    glass = (darkest >= NEAR_WHITE) & (pixels.max(axis=0) - darkest <= _UNSATURATED)
    share: Floats = glass.mean(axis=1, dtype=np.float32)
    return share


def _histogram(pixels: Bytes) -> NDArray[np.float16]:
    if len(pixels) == 3:
        codes = (pixels[0] >> 6) * np.uint8(16) + (pixels[1] >> 6) * np.uint8(4) + (pixels[2] >> 6)
    else:
        codes = pixels[0] >> 2
    return shares(codes, 64).astype(np.float16)


class CloseLook:
    """Measures each image when it is first asked about, and keeps what it found."""

    def __init__(self, images: Callable[[Places], Bytes]) -> None:
        self._images = images
        self._found: dict[int, int] = {}
        """For the place of an image, that of what was measured of it."""
        self._measured: list[dict[str, NDArray[Any]]] = []

    def __call__(self, places: Places) -> dict[str, NDArray[Any]]:
        """What ``look_closer`` tells of the images at these places."""
        new = [place for place in dict.fromkeys(places.tolist()) if place not in self._found]
        if new or not self._measured:
            self._measured += self._look(np.array(new, np.int64))
            self._found.update(zip(new, count(len(self._found)), strict=False))
        rows = [self._found[place] for place in places.tolist()]
        return {
            name: np.concatenate([part[name] for part in self._measured])[rows] for name in self._measured[0]
        }

    def _look(self, places: Places) -> list[dict[str, NDArray[Any]]]:
        """Some at a time; at none once, so that there are columns."""
        starts = range(0, max(1, len(places)), READ_AT_ONCE)
        return [look_closer(self._images(places[start : start + READ_AT_ONCE])) for start in starts]
