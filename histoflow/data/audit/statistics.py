"""Figures with intervals, for images that come in groups: two tiles of a slide tell less than two slides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""How many standard errors 95 % lie within, of one degree of freedom and more."""


@dataclass(frozen=True)
class Estimate:
    """A figure from 0 to 1, and the interval that holds it 19 times of 20.

    There is no interval where a single group says nothing of how groups differ.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    def surely_above(self, figure: float) -> bool:
        """Whether the whole interval is; never without one."""
        return self.low is not None and self.low > figure

    def to_data(self) -> dict[str, float | None]:
        return {name: None if value is None else round(value, 4) for name, value in asdict(self).items()}


def codes_of(groups: Any, count: int) -> Codes:
    """A number for each image's group; each image is one of its own where there are none."""
    if groups is None:
        return np.arange(count)
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def auc(scores: Floats, positive: Flags, groups: Codes, folds: Codes | None = None) -> Estimate | None:
    """The chance that one of the positive images scores above one of the others; None where a side is empty.

    Where scores come from several models, ``folds`` says whose each is: only those of one are compared.
    There is no interval where a side is of one group.
    """
    value, influence, pairs = 0.0, np.zeros(len(scores)), 0
    for fold in np.zeros(1, np.int64) if folds is None else np.unique(folds):
        here = np.arange(len(scores)) if folds is None else np.flatnonzero(folds == fold)
        yes = positive[here]
        weight = int(yes.sum()) * int((~yes).sum())
        if weight:
            area, parts = _area(scores[here], yes)
            value += weight * area
            influence[here] = weight * parts
            pairs += weight
    if not pairs:
        return None
    value /= pairs
    if min(_drawn(groups[positive]), _drawn(groups[~positive])) == 1:
        return Estimate(value)
    spread = _spread(influence / pairs, groups)
    least = _least_spread(value, int(positive.sum()), int((~positive).sum()))
    return _interval(value, max(spread, least), groups)


def balanced_accuracy(right: Flags, labels: Codes, groups: Codes) -> Estimate:
    """The mean over the classes that occur of the share that is right.

    There is no interval where each class is of one group.
    """
    counts = np.bincount(labels)
    recalls = np.bincount(labels, right) / np.maximum(counts, 1)
    classes = int((counts > 0).sum())
    influence = (right - recalls[labels]) / (classes * counts[labels])
    value = float(recalls.sum() / classes)
    if max(_drawn(groups[labels == label]) for label in np.flatnonzero(counts)) == 1:
        return Estimate(value)
    return _interval(value, max(_spread(influence, groups), _least_of_shares(value, len(right))), groups)


def accuracy(right: Flags, groups: Codes) -> Estimate:
    value = float(right.mean())
    influence = (right - value) / len(right)
    return _interval(value, max(_spread(influence, groups), _least_of_shares(value, len(right))), groups)


def _area(scores: Floats, positive: Flags) -> tuple[float, Floats]:
    """The area under the curve, and how much each image moves it (DeLong's placements)."""
    yes, no = int(positive.sum()), int((~positive).sum())
    among_all = _ranks(scores)
    places = np.empty(len(scores))
    places[positive] = (among_all[positive] - _ranks(scores[positive])) / no
    places[~positive] = 1 - (among_all[~positive] - _ranks(scores[~positive])) / yes
    area = float(places[positive].mean())
    return area, (places - area) / np.where(positive, yes, no)


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _spread(influence: Floats, groups: Codes) -> float:
    """The standard error of a figure on which each image has this influence, groups being drawn whole."""
    moved = np.bincount(groups, influence)
    drawn = _drawn(groups)
    return float(np.sqrt((moved**2).sum() * drawn / max(drawn - 1, 1)))


def _drawn(groups: Codes) -> int:
    return int(np.count_nonzero(np.bincount(groups)))


def _least_spread(value: float, yes: int, no: int) -> float:
    """Hanley and McNeil's, of an area a little off the ends: a perfect area on ten images is no certainty."""
    fewer = min(yes, no)
    area = (max(value, 1 - value) * fewer + 0.5) / (fewer + 1)
    both_above, both_below = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (yes - 1) * (both_above - area**2) + (no - 1) * (both_below - area**2)
    return float(np.sqrt(variance / (yes * no)))


def _least_of_shares(value: float, count: int) -> float:
    share = (value * count + 1) / (count + 2)
    return float(np.sqrt(share * (1 - share) / count))


def _interval(value: float, spread: float, groups: Codes) -> Estimate:
    freedom = _drawn(groups) - 1
    if freedom < 1:
        return Estimate(value)
    reach = student(freedom) * spread
    return Estimate(value, max(value - reach, 0.0), min(value + reach, 1.0))


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond the table by Cornish and Fisher, right to 0.002."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return 1.96 + 2.3724 / freedom + 2.8224 / freedom**2
