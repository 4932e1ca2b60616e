"""Sharpness and texture of images, measured on their grey."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.planes import planes

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_WHOLE = 64
"""Pixels: of wider or higher images not the whole is looked at, but two stretches of half as many."""


def sharpness_and_texture(images: Bytes) -> dict[str, NDArray[Any]]:
    """See ``features.describe``; of large images, of windows around the centres of their quarters."""
    looks = _Looks(images)
    texture = np.hstack([_patterns(looks), _gradients(looks)])
    return {"sharpness": _sharpness(looks), "texture": texture.astype(np.float16)}


class _Looks:
    """What is looked at of images: N × windows × height × width of grey, each window with a border around it.

    The border is what lies there; beyond the edge of the image, what lies at the edge. Neighbours are
    compared in one long row of all pixels, where they stand a fixed way apart: the rows of a window are too
    short to be fast. So in results of the same shape only what is ``inside`` means something.
    """

    def __init__(self, images: Bytes) -> None:
        stretches = [_stretches(side) for side in images.shape[1:3]]
        self.grey = _bordered(_grey(planes(images, *stretches)), *(len(some) == 1 for some in stretches))
        self.row = self.grey.shape[3]
        self._flat = self.grey.reshape(-1)

    def beside(self, down: int, across: int, flat: NDArray[Any] | None = None) -> NDArray[Any]:
        """In one row, the neighbours of all pixels that have eight of them."""
        flat = self._flat if flat is None else flat
        start = (1 + down) * self.row + 1 + across
        return flat[start : start + max(0, len(flat) - 2 * self.row - 2)]

    def inside(self, values: NDArray[Any], kind: Any, down: int = 0, across: int = 0) -> NDArray[Any]:
        """N × values of this type, without the border; and without the last row or column."""
        _, _, height, width = values.shape
        inner = values[:, :, 1 : height - 1 - down, 1 : width - 1 - across].astype(kind)
        return inner.reshape(len(values), math.prod(inner.shape[1:]))


def _stretches(side: int) -> list[slice]:
    """With their borders; laid so that it is the same from which end one counts."""
    if side <= _WHOLE:
        return [slice(0, side)]
    length = _WHOLE // 2 + 2
    start = max(0, side // 2 - length) // 2
    return [slice(start, start + length), slice(side - start - length, side - start)]


def _bordered(grey: Bytes, down: bool, across: bool) -> Bytes:
    """With a border of what lies at the edge, in those directions."""
    *several, height, width = grey.shape
    wide = np.empty((*several, height + 2 * down, width + 2 * across), np.uint8)
    wide[..., down : height + down, across : width + across] = grey
    if across:
        wide[..., 0], wide[..., -1] = wide[..., 1], wide[..., -2]
    if down:
        wide[..., 0, :], wide[..., -1, :] = wide[..., 1, :], wide[..., -2, :]
    return wide


def _grey(channels: Bytes) -> Bytes:
    if len(channels) != 3:
        first: Bytes = channels[0]
        return first
    weighted = channels[0] * np.uint16(77)
    weighted += channels[1] * np.uint16(150)
    weighted += channels[2] * np.uint16(29)
    weighted += 128
    weighted >>= 8
    grey: Bytes = weighted.astype(np.uint8)
    return grey


def sharpness(images: Bytes) -> Floats:
    """The logarithm of the variance of the Laplacian; of large images, of the same windows."""
    return _sharpness(_Looks(images))


def _sharpness(looks: _Looks) -> Floats:
    laplacian = np.empty(looks.grey.shape, np.int16)
    wide, found = looks.grey.reshape(-1).astype(np.int16), looks.beside(0, 0, laplacian.reshape(-1))
    np.multiply(looks.beside(0, 0, wide), np.int16(-4), out=found)
    for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        found += looks.beside(down, across, wide)
    values = looks.inside(laplacian, np.float32)
    variance = _mean_square(values) - values.mean(axis=1) ** 2
    sharpness: Floats = np.log1p(np.maximum(variance, 0))
    return sharpness


def _mean_square(values: Floats) -> Floats:
    square: Floats = np.vecdot(values, values)
    return square / np.float32(max(1, values.shape[1]))


_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _patterns(looks: _Looks) -> Floats:
    """Shares of local binary patterns: which of the 8 neighbours are as bright as the pixel."""
    codes, centre = np.zeros(looks.grey.shape, np.uint8), looks.beside(0, 0)
    found, brighter = looks.beside(0, 0, codes.reshape(-1)), np.empty(len(centre), np.bool_)
    for down, across in _AROUND:
        np.greater_equal(looks.beside(down, across), centre, out=brighter)
        found += found
        found |= brighter.view(np.uint8)
    return shares(looks.inside(codes, np.intp), 256) @ _uniform_patterns()


def shares(codes: NDArray[Any], kinds: int) -> Floats:
    """How often each code below ``kinds`` occurs in each row of codes."""
    counts = np.zeros((len(codes), kinds), np.float32)
    for counted, image in zip(counts, codes, strict=True):
        counted[:] = np.bincount(image, minlength=kinds)
    return counts / np.float32(max(1, codes.shape[1]))


@cache
def _uniform_patterns() -> Floats:
    """256×10: to its count of ones belongs a pattern whose ones stand together, to the tenth all others."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    kinds = np.where(changes <= 2, bits.sum(axis=1), 9)
    return np.eye(10, dtype=np.float32)[kinds]


def _gradients(looks: _Looks) -> Floats:
    """Mean, spread and greatest of the steps between neighbours, and how uneven the two directions are."""
    down, across = _steps(looks, 1, 0), _steps(looks, 0, 1)
    mean = [steps.sum(axis=1) / np.float32(max(1, steps.shape[1])) for steps in (down, across)]
    greatest = np.maximum(down.max(axis=1, initial=0), across.max(axis=1, initial=0))
    return np.stack(
        [
            np.log1p(mean[0] + mean[1]),
            np.log1p(_mean_square(down) + _mean_square(across)) / 2,
            np.log1p(greatest),
            np.abs(mean[0] - mean[1]) / (mean[0] + mean[1] + 1),
        ],
        axis=1,
    )


def _steps(looks: _Looks, down: int, across: int) -> Floats:
    """N × steps from each pixel to the one below or beside it."""
    steps = np.zeros(looks.grey.shape, np.uint8)
    here, there = looks.beside(0, 0), looks.beside(down, across)
    found = looks.beside(0, 0, steps.reshape(-1))
    np.maximum(here, there, out=found)
    found -= np.minimum(here, there)
    return looks.inside(steps, np.float32, down, across)
