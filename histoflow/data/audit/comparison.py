"""How far two splits can be told apart, what that means, and how it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histoflow.components import SplitName
from histoflow.data.audit.differences import Difference
from histoflow.data.audit.finding import Severity
from histoflow.data.audit.statistics import Estimate

ALIKE, APART = 0.6, 0.7
"""An AUC up to the first is of no consequence; one from the second on is warned of."""
_MARGIN = 0.04
"""By so much an AUC must exceed that of every random cut; by less where there is no such room below 1."""


@dataclass(frozen=True)
class Comparison:
    """How far two splits can be told apart, and by what."""

    splits: tuple[SplitName, SplitName]
    auc: Estimate
    families: Mapping[str, Estimate]
    """By features of one kind alone."""
    cuts: Sequence[float]
    """AUCs of random cuts of the groups; none where they were not asked for, or are too few."""
    lone: bool
    """Whether groups are too few to tell a shift from what sets any slide apart."""
    differences: Sequence[Difference]

    @property
    def is_usual(self) -> bool:
        """Whether a random cut of the groups comes to about as much."""
        if not self.cuts:
            return False
        most = max(self.cuts)
        return self.auc.value <= most + min(_MARGIN, (1 - most) / 3)

    @property
    def severity(self) -> Severity:
        if self.auc.value < ALIKE or (self.auc.low is not None and self.auc.low <= 0.5):
            return "ok"
        if self.lone or self.is_usual:
            return "note"
        return "warning" if self.auc.value >= APART and self.auc.surely_above(ALIKE) else "note"

    def to_data(self) -> dict[str, Any]:
        return {
            "splits": list(self.splits),
            "auc": self.auc.to_data(),
            "families": {name: area.to_data() for name, area in self.families.items()},
            "by_chance": [round(min(self.cuts), 4), round(max(self.cuts), 4)] if self.cuts else None,
            "differences": [difference.to_data() for difference in self.differences],
        }


def told(found: Comparison) -> str:
    """In words: the figure, what gives the splits away, and what follows from it."""
    one, other = found.splits
    if found.auc.value < 0.5:
        figure = f"A plain classifier cannot tell {other} from {one} (AUC {found.auc}; 0.5 is guessing)"
    else:
        figure = f"A plain classifier tells {other} from {one} with an AUC of {found.auc}"
    if found.severity == "ok":
        return f"{figure}: they look alike. {_PROMISES[found.splits]}"
    verdict = _WARNINGS[found.splits] if found.severity == "warning" else _reservation(found)
    return f"{figure}. {_looks(found)} {verdict}"


def _looks(found: Comparison) -> str:
    if not found.differences:
        best = max(found.families, key=lambda name: found.families[name].value)
        return f"What gives it away is {best}, AUC {found.families[best].value:.2f} alone."
    told = [str(difference) for difference in found.differences[:3]]
    listed = f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]
    return f"{found.splits[1].capitalize()} is {listed}."


def _reservation(found: Comparison) -> str:
    if found.lone or found.auc.low is None:
        return "There are too few groups to tell a shift from what sets any slide apart."
    if found.is_usual:
        return (
            f"That is no more than random cuts of the groups of train and val come to (up to "
            f"{max(found.cuts):.2f}): groups differ, the cut is not to blame. More of them would make "
            f"figures surer."
        )
    return "That is little, and yet more than chance."


_PROMISES: Mapping[tuple[SplitName, SplitName], str] = {
    ("train", "val"): "What is learnt on the one should hold on the other.",
    ("val", "test"): "A validation score should predict the test score.",
    ("train", "test"): "What is learnt on the one should hold on the other.",
}
_WARNINGS: Mapping[tuple[SplitName, SplitName], str] = {
    ("train", "val"): "Validation asks for more than training shows: expect low figures that jump about.",
    ("val", "test"): "A validation score will not predict the test score.",
    ("train", "test"): "Expect a test score below what training and validation promise.",
}
