"""How large a loss may be that the test images do not show, where they do not show a single one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histoflow.evaluation import answers
from histoflow.evaluation.intervals import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Bound:
    loss: float
    unchanged: bool
    """Nothing was gained either."""


class Unseen:
    """What resampling cannot say: how large a loss may be of which there is not one case.

    Among n patients or images without a single loss, one that befalls a share p of them goes unseen with the
    chance (1 - p) to the power of n. The p at which that is 2.5 % is the bound. It is not asked for where so
    many have gained that they would hardly all fall on one side if losses were as frequent.
    """

    def __init__(self, champion: Predictions, challenger: Predictions) -> None:
        labels = challenger.labels
        self._shown = answers.shown(labels, challenger.probabilities.shape[1])
        self._right = [
            answers.told(one.probabilities, labels) == self._shown for one in (champion, challenger)
        ]
        self._groups = challenger.groups

    def of_all(self) -> Bound | None:
        """None where an image was lost, that is no longer told right."""
        before, now = (right.all(axis=1) for right in self._right)
        return self._bound(before, now, np.ones(len(self._shown), bool))

    def in_class(self, index: int) -> Bound | None:
        """The same of the images that show a class, and of whether that is told of them."""
        before, now = (right[:, index] for right in self._right)
        return self._bound(before, now, self._shown[:, index])

    def _bound(
        self, before: NDArray[np.bool_], now: NDArray[np.bool_], of: NDArray[np.bool_]
    ) -> Bound | None:
        tail = (1 - LEVEL) / 2
        units, gained = self._units(of), self._units(of & now & ~before)
        if not units or (of & before & ~now).any() or 0.5**gained <= tail:
            return None
        return Bound(loss=float(1 - tail ** (1 / units)), unchanged=not gained)

    def _units(self, images: NDArray[np.bool_]) -> int:
        return int(images.sum()) if self._groups is None else len(np.unique(self._groups[images]))
