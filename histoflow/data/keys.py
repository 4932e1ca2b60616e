"""What deals an image out to a split where it has no group: a key that it shares with its turned copies."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from histoflow.data.moments import Moments, of_each

Bytes = NDArray[np.uint8]


def dealing_keys(images: Bytes, moments: Moments | None = None) -> list[bytes]:
    """16 bytes for each of N×H×W×C images, the same for its flipped and right-angle rotated copies.

    They are of its edges, and of the sum of all its pixels, in bytes that overflow. Two other images may
    share a key by chance, which only has them dealt to the same side. ``moments`` are those of the images,
    where the caller has them already.
    """
    sums = (moments or of_each(images)).totals.astype(np.uint8)
    edges = _edges(images)
    size = str(min(images.shape[1:3])).encode()
    return [
        hashlib.blake2b(min(some) + total, digest_size=16, salt=size).digest()
        for some, total in zip(_rows(edges), (one.tobytes() for one in sums), strict=True)
    ]


def _edges(images: Bytes) -> Bytes:
    """N × edges × bytes: the shortest edges of each image, read either way."""
    height, width = images.shape[1:3]
    along = [images[:, 0], images[:, -1]] if width <= height else []
    down = [images[:, :, 0], images[:, :, -1]] if height <= width else []
    edges = np.stack([*along, *down], axis=1)
    return np.concatenate([edges, edges[:, :, ::-1]], axis=1).reshape(len(images), -1, edges[0, 0].size)


def _rows(edges: Bytes) -> list[list[bytes]]:
    """As bytes, which are compared faster."""
    _, several, length = edges.shape
    starts = range(0, several * length, length)
    whole = (image.tobytes() for image in edges)
    return [[image[start : start + length] for start in starts] for image in whole]
