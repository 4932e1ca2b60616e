"""Mean and standard deviation of pixels, from whole numbers: exact, and the same in whichever order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.int64]
"""3 × channels: how many pixels there are, the sum of their levels, and of the levels' squares."""
_SLICE = 64  # images looked at at once: their squares are to stay in the processor's cache


def sums_of(shards: Iterable[NDArray[np.uint8]], channels: int) -> Sums:
    found = np.zeros((3, channels), np.int64)
    for images in shards:
        for start in range(0, len(images), _SLICE):
            found += _sums(images[start : start + _SLICE])
    return found


def _sums(images: NDArray[np.uint8]) -> Sums:
    count, height, width, channels = images.shape
    # Row upon row keeps numpy in its fast loops; channels are told apart when few numbers are left.
    rows = images.reshape(count * height, width * channels)
    totals = rows.sum(axis=0, dtype=np.uint32)
    squares = np.multiply(rows, rows, dtype=np.uint16).sum(axis=0, dtype=np.uint64)
    told = [sums.reshape(width, channels).sum(axis=0, dtype=np.int64) for sums in (totals, squares)]
    return np.stack([np.full(channels, count * height * width), *told])


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
