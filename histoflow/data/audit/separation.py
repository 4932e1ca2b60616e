"""How well a plain linear classifier tells two sets of images apart, by features of each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.statistics import Codes, Estimate, auc

Floats = NDArray[np.float64]
_FOLDS = 5
_RIDGE = 1e-2


@dataclass(frozen=True)
class Two:
    """Two sets of images side by side."""

    second: NDArray[np.bool_]
    """Which images are of the second set."""
    groups: Codes
    """From 0, without gaps; no group stands on both sides where ``by_group``."""
    by_group: bool

    @property
    def key(self) -> bytes:
        """The same for the same cut, whichever set comes second."""
        return bytes(np.packbits(self.second ^ self.second[0]))


def separation(features: Floats, two: Two) -> Estimate | None:
    """The AUC of a ridge classifier on images, or groups, that it was not fitted on.

    None where a set has too few images to say anything.
    """
    folds = _folds(two)
    if folds is None:
        return None
    return auc(_scores(features, two.second.astype(np.float64), folds), two.second, two.groups, folds)


def _folds(two: Two) -> Codes | None:
    """The fold of each image; whole groups of either set are dealt out in turn, so each fold has both."""
    fold = np.zeros(len(two.groups), np.int64)
    units = [np.unique(two.groups[two.second == side]) for side in (False, True)]
    number = min(_FOLDS, *(len(of_side) for of_side in units))
    if number < 2:
        return None
    chance = np.random.default_rng(0)
    for side, of_side in zip((False, True), units, strict=True):
        place = np.zeros(two.groups.max() + 1, np.int64)
        place[chance.permutation(of_side)] = np.arange(len(of_side)) % number
        here = two.second == side
        fold[here] = place[two.groups[here]]
    return fold


def _scores(features: Floats, target: Floats, folds: Codes) -> Floats:
    """Of each image, by the classifier fitted on the other folds; moments are summed once a fold."""
    spread = features.std(axis=0)
    whole = np.hstack(
        [(features - features.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0), _ones(features)]
    )
    parts = [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]
    squares = [whole[part].T @ whole[part] for part in parts]
    products = [whole[part].T @ target[part] for part in parts]
    scores = np.zeros(len(target))
    for place, part in enumerate(parts):
        square, product = sum(squares) - squares[place], sum(products) - products[place]
        square.flat[:: len(square) + 1] += _RIDGE * (len(target) - len(part)) + 1e-9
        scores[part] = whole[part] @ np.linalg.solve(square, product)
    return scores


def _ones(features: Floats) -> Floats:
    return np.ones((len(features), 1))
