"""Deals groups into the folds of a cross-validation: parts of like size, alike in their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.splits import counted
from histoflow.errors import DataError
from histoflow.seeds import fraction

_Counts = NDArray[np.int64]
"""Groups × classes + 1: how many images of each class a group has; in the last column all."""


def deal_folds(
    keys: NDArray[Any], labels: NDArray[Any], classes: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold of each image, from 0 on. Images of one key stay together; each fold has each class.

    ``labels`` are classes, or rows of zeros and ones where an image may show several. Refuses what cannot be
    done.
    """
    names, group = np.unique(keys, return_inverse=True)
    counts = counted(group, labels, len(names))
    _refuse_too_few(counts, classes, folds)
    fold = _balanced(counts, _order(names.tolist(), counts, seed), folds)
    _refuse_missing(fold, counts, classes, folds)
    found: NDArray[np.int64] = fold[group]
    return found


def _order(names: Sequence[Any], counts: _Counts, seed: int) -> NDArray[np.intp]:
    """Groups that hold most of a class first, by powers of two; alike ones as the seed would have it.

    What is dealt late fills the gaps, and small groups fill them best.
    """
    largest = _shares(counts).max(axis=1)
    chance = np.array([fraction(seed, f"fold of {name}") for name in names])
    return np.lexsort((chance, -np.round(np.log2(largest))))


def _shares(counts: _Counts) -> NDArray[np.float64]:
    """Of all images of a class, and of all images, those that are in this group."""
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=0), 1)
    return shares


def _balanced(counts: _Counts, order: NDArray[np.intp], folds: int) -> NDArray[np.int64]:
    """Each group goes where it keeps the squares of all shares smallest, of each class and of the images.

    But where a class has only so many groups left as there are folds without it, to one of these.
    """
    shares, loads = _shares(counts), np.zeros((folds, counts.shape[1]))
    without = _Without(counts > 0, folds)
    fold = np.empty(len(counts), np.int64)
    for group in order.tolist():
        cost = loads @ shares[group]
        if without.any:
            cost -= without.needs(group) * (counts.shape[1] + 1)  # more than all shares together
        chosen = int(cost.argmin())
        if without.any:
            without.deal(group, chosen)
        fold[group] = chosen
        loads[chosen] += shares[group]
    return fold


class _Without:
    """Which folds have no group of a class yet, and how many groups of it are left to deal."""

    def __init__(self, has: NDArray[np.bool_], folds: int) -> None:
        self._has = has
        self._left = has.sum(axis=0)
        self._lacks = np.ones((folds, has.shape[1]), bool)
        self._lacks[:, self._left == 0] = False
        self.any = True

    def needs(self, group: int) -> NDArray[np.int64]:
        """Of each fold, how many classes of this group it must be given now or may never have."""
        pressing = self._has[group] & (self._left <= self._lacks.sum(axis=0))
        found: NDArray[np.int64] = self._lacks[:, pressing].sum(axis=1)
        return found

    def deal(self, group: int, fold: int) -> None:
        self._left -= self._has[group]
        self._lacks[fold] &= ~self._has[group]
        self.any = bool(self._lacks.any())


def _refuse_too_few(counts: _Counts, classes: Sequence[str], folds: int) -> None:
    groups = (counts > 0).sum(axis=0)
    if groups[-1] < folds:
        raise DataError(
            f"training.folds must be at most the number of groups in train and val, which is {groups[-1]}: "
            f"no group may stand in two folds, nor may copies of an image. Got {folds}."
        )
    rare = {classes[place]: int(count) for place, count in enumerate(groups[:-1]) if 0 < count < folds}
    if rare:
        few = ", ".join(f"'{name}' in {count}" for name, count in rare.items())
        least = min(rare.values())
        advice = f"Lower training.folds to {least}" if least > 1 else "Train without training.folds"
        raise DataError(
            f"Each fold needs an image of each class to validate on, and images of one group stay together. "
            f"training.folds is {folds}, but in train and val there is {few} "
            f"{'group' if least == 1 and len(rare) == 1 else 'groups'} only. {advice}, or add data."
        )


def _refuse_missing(fold: NDArray[np.int64], counts: _Counts, classes: Sequence[str], folds: int) -> None:
    found = np.stack([counts[fold == part].sum(axis=0) for part in range(folds)])
    missing = [
        f"fold {part + 1} has no image of '{classes[place]}'"
        for part, place in np.argwhere((found == 0) & (counts.sum(axis=0) > 0)).tolist()
        if place < len(classes)
    ]
    if missing:
        raise DataError(
            f"The groups cannot be dealt so that each of {folds} folds has an image of each class: "
            f"{'; '.join(missing[:3])}. Lower training.folds, or try another split.seed."
        )
