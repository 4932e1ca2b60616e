"""Who belongs to which split.

Official splits are kept. Where there are none, a stable hash of the image's group deals it out, so
that one group never stands on two sides and new images never move old ones.

A hash knows nothing of labels: each class gets its share on average, and less surely so the fewer its
groups are. Dealing class by class would be exact, but a new image could then move old ones. What can be
chosen is the seed: ``best_seed`` finds one under which this data set, as it is, comes out well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, Row, SplitName
from histoflow.errors import DataError
from histoflow.seeds import fraction

_HASHES = 400_000
"""How many a search for a seed may compute: half a second of work."""
_FEWEST_SEEDS = 4


@dataclass(frozen=True)
class Dealer:
    """How rows are dealt out; processes that decode images know it, too."""

    val: float
    """The share to be cut from what is not dealt out yet; 0 where the data set brings the split."""
    test: float
    seed: int

    def __call__(self, row: Row, image_hash: str) -> SplitName:
        """The row's split, by the hash of its image where it has no group."""
        if row.split not in (None, "train"):
            return row.split
        if not self.val and not self.test:
            return "train"
        return _by_hash(key_of(row, image_hash), self.val, self.test, self.seed)


def dealer(rows: Iterable[Row], val: float, test: float, seed: int) -> Dealer:
    """How to deal these rows out; a split that the data set does not bring is cut from its training part."""
    official = {row.split for row in rows}
    if official == {None}:
        return Dealer(val, test, seed)
    if None in official or "train" not in official:
        named = ", ".join(sorted(name for name in official if name)) or "none"
        raise DataError(
            f"Either every image has a split and some are 'train', or none has one. "
            f"Found splits {named}{', and images without one' if None in official else ''}."
        )
    return Dealer(0.0 if "val" in official else val, 0.0 if "test" in official else test, seed)


def key_of(row: Row, image_hash: str) -> str:
    """What decides where the row goes: all rows of one key stay together."""
    # Without a group the image itself is the key: copies of one image then stay on one side.
    return f"group {row.group}" if row.group is not None else f"image {image_hash}"


def _by_hash(key: str, val: float, test: float, seed: int) -> SplitName:
    place = fraction(seed, key)
    if place < test:
        return "test"
    return "val" if place < test + val else "train"


# ── A seed under which a data set comes out well ────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What a seed comes to for the images that are dealt out."""

    seed: int
    shares: Mapping[SplitName, float]
    """Of the splits that are dealt out, train among them."""
    complete: bool
    """Whether each of these splits has an image of each class."""

    def __str__(self) -> str:
        parts = [f"{share:.0%} {split}" for split, share in self.shares.items()]
        classes = "each class in each of them" if self.complete else "though not each class in each of them"
        return f"split.seed={self.seed} gives {', '.join(parts)}, {classes}"


def best_seed(
    keys: Sequence[str],
    labels: NDArray[Any],
    val: float,
    test: float,
    seeds: Iterable[int] = range(1000),
) -> Suggestion | None:
    """The seed whose splits come closest to the shares asked for, overall and in each class.

    ``keys`` are those of ``key_of``, one for each image that is dealt out, and ``labels`` its class, or a row
    of zeros and ones where it may show several. A share of 0 is of a split that is not dealt. Seeds under
    which no split lacks a class come first, and of many keys only the first few seeds are tried. None where
    each seed leaves a split empty.
    """
    asked = _asked(val, test)
    per_key, counts = _counts_per_key(keys, labels)
    tried = list(seeds)[: max(_FEWEST_SEEDS, _HASHES // max(1, len(per_key)))]
    dealt = [(seed, _dealt(per_key, counts, asked, seed)) for seed in tried]
    fair = [(seed, found) for seed, found in dealt if found[:, -1].all()]
    if not fair:
        return None
    seed, found = min(fair, key=lambda one: (*_shortfall(one[1], asked), one[0]))
    shares = found[:, -1] / found[:, -1].sum()
    return Suggestion(
        seed=seed,
        shares=dict(zip(asked, shares.tolist(), strict=True)),
        complete=not _shortfall(found, asked)[0],
    )


def advice(suggestion: Suggestion | None, keys: Sequence[str]) -> str:
    """What to do about a split without images, in one sentence or two."""
    if suggestion is not None:
        return f"Change split.seed: {suggestion}."
    return (
        f"The images come in {len(set(keys)):,} groups (an image without one counts as its own), too few for "
        f"the shares asked for. Raise split.val and split.test, or add data."
    )


def _asked(val: float, test: float) -> dict[SplitName, float]:
    """The shares of those splits that are dealt out."""
    shares = {"train": 1 - val - test, "val": val, "test": test}
    return {split: shares[split] for split in SPLITS if split == "train" or shares[split]}


def _counts_per_key(keys: Sequence[str], labels: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct keys, and for each how many of its images are of each class; in the last column all."""
    distinct, place = np.unique(np.asarray(keys, np.str_), return_inverse=True)
    return distinct.tolist(), counted(place, labels, len(distinct))


def counted(place: NDArray[np.int64], labels: NDArray[Any], places: int) -> NDArray[np.int64]:
    """Places × classes + 1: how many images of each class stand at each place; in the last column all."""
    columns = labels.T if labels.ndim == 2 else [labels == one for one in range(int(labels.max()) + 1)]
    found = [np.bincount(place, weights=column, minlength=places) for column in columns]
    return np.stack([*found, np.bincount(place, minlength=places)], axis=1).astype(np.int64)


def _dealt(
    keys: Sequence[str], counts: NDArray[np.int64], asked: Mapping[SplitName, float], seed: int
) -> NDArray[np.int64]:
    """Splits × classes + 1: what each split gets."""
    val, test = asked.get("val", 0.0), asked.get("test", 0.0)
    split = np.array([_by_hash(key, val, test, seed) for key in keys])
    return np.stack([counts[split == name].sum(axis=0) for name in asked])


def _shortfall(found: NDArray[np.int64], asked: Mapping[SplitName, float]) -> tuple[int, float]:
    """How often a split lacks a class, and how far the shares are from those asked for."""
    totals = found.sum(axis=0)
    there = totals > 0
    shares = found[:, there] / totals[there]
    wanted = np.array(list(asked.values()))[:, None]
    return int((found[:, there] == 0).sum()), float((((shares - wanted) / wanted) ** 2).mean())
