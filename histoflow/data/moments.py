"""Mean and standard deviation of pixels, from whole numbers: exact, and the same in whichever order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.int64]
"""3 × channels: how many pixels there are, the sum of their levels, and of the levels' squares."""
_SLICE_BYTES = 2**18  # looked at at once: as float32, and their squares, they are to stay in a core's cache
_ROWS = 256  # as many squares of levels as float32 adds up without rounding


class Moments(NamedTuple):
    """N × channels, of each image."""

    totals: NDArray[np.int64]
    """The sum of its levels."""
    squares: NDArray[np.int64]
    """The sum of their squares."""


def of_each(images: NDArray[np.uint8]) -> Moments:
    count, height, width, channels = images.shape
    found = Moments(*np.zeros((2, count, channels), np.int64))
    step = max(1, _SLICE_BYTES // max(1, height * width * channels))
    workplace = np.empty((step, min(height, _ROWS), width * channels), np.float32)
    for start in range(0, count, step):
        some = slice(start, start + step)
        for row in range(0, height, _ROWS):
            totals, squares = _column_sums(images[some, row : row + _ROWS], workplace)
            found.totals[some] += totals
            found.squares[some] += squares
    return found


def _column_sums(
    images: NDArray[np.uint8], workplace: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In float32, for which there are fast sums; of so few rows they are exact."""
    count, height, width, channels = images.shape
    levels = workplace[:count, :height]  # again and again the same memory: it is in the core's cache
    levels[:] = images.reshape(levels.shape)
    ones = np.ones((1, height), np.float32)
    totals = ones @ levels
    np.multiply(levels, levels, out=levels)
    squares = ones @ levels
    # Channels are told apart when few numbers are left, which float64 adds up exactly.
    channel = np.tile(np.eye(channels), (width, 1))
    told = [(sums[:, 0].astype(np.float64) @ channel).astype(np.int64) for sums in (totals, squares)]
    return told[0], told[1]


def sums_of(shards: Iterable[NDArray[np.uint8]], channels: int) -> Sums:
    found = np.zeros((3, channels), np.int64)
    for images in shards:
        moments = of_each(images)
        found[0] += len(images) * images.shape[1] * images.shape[2]
        found[1] += moments.totals.sum(axis=0)
        found[2] += moments.squares.sum(axis=0)
    return found


def mean_and_std(sums: Sums) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, with pixels from 0 to 1."""
    pixels, totals, squares = sums.tolist()
    return from_sums(pixels[0], totals, squares)


def from_sums(
    pixels: int, totals: Sequence[int], squares: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of so many pixels, from the sum of their levels and of the levels' squares in each channel."""
    mean = tuple(total / (pixels * 255) for total in totals)
    variances = [
        (pixels * square - total**2) / (pixels * 255) ** 2
        for total, square in zip(totals, squares, strict=True)
    ]
    # A channel without any contrast must not be divided by nothing.
    return mean, tuple(variance**0.5 if variance > 1e-12 else 1.0 for variance in variances)
