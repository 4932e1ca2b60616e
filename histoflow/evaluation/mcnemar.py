"""McNemar's test: whether two models are right on the same images equally often, beyond chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_BELOW = 25
"""Of so few images on which one model alone is right, the exact test is told, which errs towards caution."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """On how many images which model is right, and how likely chance alone parts them so far."""

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    p: float
    """Two-sided, images taken as independent of each other: those of one patient hardly are."""

    @property
    def discordant(self) -> int:
        """Images on which one model alone is right; the test looks at nothing else."""
        return self.only_a + self.only_b


def mcnemar(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> McNemar:
    """From whether each model is right on each image."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return McNemar(
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        p=p_value(only_a, only_b),
    )


def p_value(only_a: int, only_b: int) -> float:
    """The exact binomial test of ``EXACT_BELOW`` discordant images; of as many or more its mid-p form.

    The exact test rejects true equality less often than it says, and so overlooks differences; mid-p, which
    counts half of the outcome seen, does neither (Fagerland, Lydersen and Laake 2013).
    """
    discordant, fewer = only_a + only_b, min(only_a, only_b)
    chances = _fair_coin(discordant, fewer)
    tail = chances.sum() if discordant < EXACT_BELOW else chances.sum() - chances[-1] / 2
    return min(1.0, 2 * float(tail))


def _fair_coin(tosses: int, heads: int) -> NDArray[np.float64]:
    """How likely 0, 1, …, ``heads`` heads are."""
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, tosses + 1)))))  # of factorials
    found = np.arange(heads + 1)
    chances: NDArray[np.float64] = np.exp(logs[-1] - logs[found] - logs[tosses - found] - tosses * np.log(2))
    return chances
