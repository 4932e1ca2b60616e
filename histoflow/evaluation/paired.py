"""Intervals of the difference between two models, from figures of both on the same resamples."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.evaluation.resampling import Units

FEWEST_UNITS = 6
"""By chance, all of five groups change for the better in 1 of 32 cases: too often for an interval at 95 %."""


AGREE_WITHIN = 1e-12
"""Differences no further apart are the same but for rounding."""


@dataclass(frozen=True)
class Support:
    """How many units (groups or images) a figure can vary with, and what they are."""

    units: int
    what: str


def of_all(units: Units) -> Support:
    return Support(len(units), _kind(units))


def of_classes(units: Units, shown: NDArray[np.bool_]) -> list[Support]:
    """For each class (a column of ``shown``), the fewer of the units that show it and that do not.

    A group that has images of both kinds counts on both sides.
    """
    found = []
    for index, showing in enumerate(shown.T):
        sides = (
            Support(len(np.unique(units.of_image[showing])), f"{_kind(units)} that show class {index}"),
            Support(len(np.unique(units.of_image[~showing])), f"{_kind(units)} without class {index}"),
        )
        found.append(min(sides, key=lambda side: side.units))
    return found


def _kind(units: Units) -> str:
    return "groups" if units.grouped else "images"


def tail_of(units: Units, confidence: float, support: Support | None = None) -> float:
    """The share of resamples to be left out at each end of an interval.

    Of few groups, resamples vary less than samples would, and their quantiles leave out what is rare in
    them. Both are made good by going further out, as far as Student's t is beyond the normal distribution
    (the expanded percentile interval of Hesterberg 2015). ``support`` is what the figure rests on, where that
    is not all units.
    """
    count, freedom = len(units), len(units) - int(units.strata.max()) - 1
    if support is not None and support.units - 1 < freedom:
        count, freedom = support.units, support.units - 1
    normal = NormalDist()
    reach = _student(normal.inv_cdf((1 + confidence) / 2), freedom) * sqrt(count / freedom)
    return normal.cdf(-reach)


def interval(drawn: NDArray[np.float64], tail: float) -> tuple[tuple[float, float] | None, str]:
    """What lies between the tails of these figures, or why nothing can be said of that."""
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) < len(drawn):
        return None, "undefined in more than half of the resamples"
    if np.ptp(defined) <= AGREE_WITHIN:
        return None, "the difference is the same in all resamples, which says nothing of chance"
    low, high = np.quantile(defined, (tail, 1 - tail))
    return (float(low), float(high)), ""


def _student(normal: float, freedom: int) -> float:
    """The quantile of Student's t in the place of one of the normal distribution (Fisher and Cornish)."""
    square = normal * normal
    terms = (
        (square + 1) / 4,
        ((5 * square + 16) * square + 3) / 96,
        (((3 * square + 19) * square + 17) * square - 15) / 384,
    )
    expansion = sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
    return normal * (1 + expansion)
