"""Resamples of a split for the bootstrap, each told by how often it holds every image.

What is drawn, with replacement, is a whole group (patient, slide) where images have groups, else an image.
It is drawn in strata, so that every resample has as many groups of each kind as the split: the stratum of
an image is its class, where images have several labels its combination of them, and that of a group what
most of its images are of, in a tie the first. A stratum of one or two would hardly vary, and so pretend to
know more than it does: those of fewer than ``FEWEST`` are drawn together, with the smallest of the others
where they come to fewer even so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 5
"""A stratum of n shows (n - 1) / n of the variance: of 5 that are 80 %, of 1 nothing at all."""

CELLS = 1 << 20
"""Resamples × images of one block: what takes part in a step stays near the processor."""


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn whole, and in which strata."""

    of_image: NDArray[np.int64]
    """The number of each image's unit."""
    strata: NDArray[np.int64]
    """The number of each unit's stratum, from 0."""
    grouped: bool
    """Whether units are groups and not single images."""

    def __len__(self) -> int:
        return len(self.strata)


def resamples(
    labels: NDArray[np.int64],
    groups: NDArray[Any] | None,
    draws: int,
    seed: int,
    block: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Blocks of resamples × images: how often each image was drawn, in whole numbers.

    ``block`` says how many resamples stand in one, the last aside; None is what fits ``CELLS``. The draws
    follow from the seed alone, whatever the size of the blocks.
    """
    return of_units(units_of(labels, groups), draws, seed, block)


def of_units(units: Units, draws: int, seed: int, block: int | None = None) -> Iterator[NDArray[np.float32]]:
    """The same of units that are known already."""
    chance = np.random.default_rng(seed)
    rows = block or max(1, CELLS // len(units.of_image))
    order = np.argsort(units.strata, kind="stable")
    for start in range(0, draws, rows):
        drawn = _drawn(units.strata, order, min(rows, draws - start), chance)
        yield np.take(drawn, units.of_image, axis=1) if units.grouped else drawn


def _drawn(
    strata: NDArray[np.int64], order: NDArray[np.int64], rows: int, chance: np.random.Generator
) -> NDArray[np.float32]:
    """How often each unit was drawn; within a stratum it is as many times as it has units."""
    count = len(strata)
    sizes = np.bincount(strata)
    begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = chance.random((rows, count))
    places *= np.repeat(sizes, sizes)
    found = places.astype(np.int64)
    found += begins
    found = order[found]
    found += np.arange(rows)[:, None] * count
    return np.bincount(found.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float32)


def units_of(labels: NDArray[np.int64], groups: NDArray[Any] | None) -> Units:
    kinds = _kinds(labels)
    if groups is None:
        return Units(np.arange(len(labels)), _pooled(kinds), grouped=False)
    if len(groups) != len(labels):
        raise DataError(f"There must be one group for each of {len(labels)} images. Got {len(groups)}.")
    names, of_image = np.unique(groups, return_inverse=True)
    return Units(of_image, _pooled(_commonest(of_image, kinds, len(names))), grouped=True)


def _kinds(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each image's class, or of its combination of labels."""
    rows = labels if labels.ndim == 1 else np.packbits(labels.astype(bool), axis=1)
    kinds: NDArray[np.int64] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return kinds


def _commonest(of_image: NDArray[np.int64], kinds: NDArray[np.int64], groups: int) -> NDArray[np.int64]:
    """The kind that most images of each group are of, in a tie the first."""
    pairs, counts = np.unique(of_image * (kinds.max() + 1) + kinds, return_counts=True)
    group, kind = np.divmod(pairs, kinds.max() + 1)
    best_last = np.lexsort((-kind, counts, group))
    commonest = np.empty(groups, np.int64)
    commonest[group[best_last]] = kind[best_last]
    return commonest


def _pooled(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Strata of one kind each, the small ones made into one."""
    sizes = np.bincount(kinds)
    small = sizes < FEWEST
    if small.any() and sizes[small].sum() < FEWEST and not small.all():
        small[np.flatnonzero(~small)[sizes[~small].argmin()]] = True
    merged = np.where(small, 0, np.arange(1, len(sizes) + 1))
    strata: NDArray[np.int64] = np.unique(merged[kinds], return_inverse=True)[1]
    return strata
