"""Pieces of images, channel by channel: what is looked at of images that are too large to look at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


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
