"""Images of the same pixels, but that one is turned by right angles or flipped."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.alike import Pairs, turned
from histoflow.data.audit.crossing import Mask, Places
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.pictures import one_colour

_AT_ONCE = 256


def turned_copies(examined: Examined, places: Places) -> Pairs:
    """Pairs of the images at these places, no two of which have the same pixels as they stand."""
    chosen = places[~one_colour(examined)[places]]
    if len(chosen):
        chosen = chosen[_not_alone(_unturned(examined, chosen))]
    looks = np.concatenate([np.empty((0, 8), "S32"), *(_looks(examined, part) for part in _parts(chosen))])
    unturned = np.sort(looks, axis=1)[:, :1].reshape(-1)
    order = np.argsort(unturned, kind="stable")
    bounds = np.flatnonzero(np.r_[True, unturned[order][1:] != unturned[order][:-1], True])
    pairs = [_pairs_of(order[start:end], looks) for start, end in pairwise(bounds) if end - start > 1]
    first, second, turns = np.concatenate([np.empty((0, 3), np.int64), *pairs]).T
    return Pairs(chosen[first], chosen[second], turns.astype(np.int8))


def _unturned(examined: Examined, places: Places) -> NDArray[np.void]:
    """What turning an image leaves exactly as it is."""
    columns = [np.ascontiguousarray(examined.features[name][places]) for name in ("mean", "std")]
    raw = [column.reshape(len(places), -1).view(np.uint8) for column in columns]
    rows = np.hstack(raw)
    return rows.view(np.dtype((np.void, rows.shape[1]))).reshape(len(places))


def _not_alone(keys: NDArray[np.void]) -> Mask:
    _, numbers, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared: Mask = counts[numbers.reshape(-1)] > 1
    return shared


def _parts(places: Places) -> Iterator[Places]:
    for start in range(0, len(places), _AT_ONCE):
        yield places[start : start + _AT_ONCE]


def _looks(examined: Examined, places: Places) -> NDArray[np.bytes_]:
    """Images × 8: a hash of each image in each orientation."""
    images = examined.images(places)
    hashes = [[_hash(image) for image in turned(images, turn)] for turn in range(8)]
    return np.array(hashes, "S32").T


def _hash(image: NDArray[np.generic]) -> str:
    return blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()


def _pairs_of(members: Places, looks: NDArray[np.bytes_]) -> Places:
    """All pairs of a set of at most eight images, and how the second must be turned to be the first."""
    rows = [
        (one, other, int(np.flatnonzero(looks[other] == looks[one, 0])[0]))
        for place, one in enumerate(members)
        for other in members[place + 1 :]
    ]
    return np.array(rows, np.int64).reshape(-1, 3)
