"""Pieces of images, channel by channel: what is looked at of images that are too large to look at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_SIDE = 64
"""Pixels: of images that are wider or higher, colours are counted at pixels spread over them."""
_AT_ONCE = 24
"""Images: what is looked at of them stays in a core's cache while a dozen measures are taken."""


def in_cache(images: Bytes) -> Iterator[Bytes]:
    """A few at a time; once none, where there are none."""
    for start in range(0, max(1, len(images)), _AT_ONCE):
        yield images[start : start + _AT_ONCE]


def planes(images: Bytes, down: Sequence[slice], across: Sequence[slice]) -> Bytes:
    """Channels × N × pieces × height × width; a piece for each of these rows and each of those columns.

    The slices of one direction take equally many.
    """
    pieces = [images[:, rows, columns] for rows in down for columns in across]
    count, height, width, channels = pieces[0].shape
    found = np.empty((channels, count, len(pieces), height, width), np.uint8)
    for place, piece in enumerate(pieces):
        found[:, :, place] = piece.transpose(3, 0, 1, 2)
    return found


def spread(images: Bytes) -> Bytes:
    """Channels × N × pixels, which lie evenly over the images."""
    found = planes(images, *(_from_both_ends(side) for side in images.shape[1:3]))
    return found.reshape(*found.shape[:2], math.prod(found.shape[2:]))


def _from_both_ends(side: int) -> list[slice]:
    """To the middle: the same pixels, whichever end is the first."""
    step, half = -(-side // _SIDE), side // 2
    if step == 1:
        return [slice(None)]
    first = step // 2  # so that no gap in the middle is wider than the others
    return [slice(first, half, step), slice(side - 1 - first, side - 1 - half, -step)]
