"""Intervals of the difference between two models, from figures of both on the same resamples."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.evaluation.resampling import Units

FEWEST_UNITS = 6
"""By chance, all of five groups change for the better in 1 of 32 cases: too often for an interval at 95 %."""


def tail_of(units: Units, confidence: float) -> float:
    """The share of resamples to be left out at each end of an interval.

    Of few groups, resamples vary less than samples would, and their quantiles leave out what is rare in
    them. Both are made good by going further out, as far as Student's t is beyond the normal distribution
    (the expanded percentile interval of Hesterberg 2015).
    """
    freedom = len(units) - int(units.strata.max()) - 1
    normal = NormalDist()
    reach = _student(normal.inv_cdf((1 + confidence) / 2), freedom) * sqrt(len(units) / freedom)
    return normal.cdf(-reach)


def interval(drawn: NDArray[np.float64], tail: float) -> tuple[float, float] | None:
    """What lies between the tails of these figures; None if less than half of them are defined."""
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) < len(drawn):
        return None
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)


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
