"""From which probability on a class is told, chosen on the validation split.

Only probabilities that validation images have come into question, and one above all of them: between two of
them, every threshold tells the same images. An image is told to show the class from the threshold on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.experiment import Evaluation

    Whole = NDArray[np.int64]

MIDDLE = 0.5
"""Where nothing can be chosen."""


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Thresholds from the lowest to the highest, and what each of them does."""

    thresholds: NDArray[np.float64]
    hits: Whole
    false_alarms: Whole
    positives: int
    negatives: int


def choose_threshold(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], settings: Evaluation
) -> tuple[float, str]:
    """Of one class's probabilities; and why it is one half where nothing could be chosen.

    Of several that are equally good it is the one nearest to one half.
    """
    missing = "shows" if not positive.any() else "lacks" if positive.all() else ""
    if missing:
        return MIDDLE, f"no validation image {missing} it"
    candidates = _candidates(scores, positive)
    chosen = _RULES[settings.threshold](candidates, settings)
    note = "" if candidates.hits[chosen] else "no validation image reaches it"
    return float(candidates.thresholds[chosen]), note


def rule_in_words(settings: Evaluation) -> str:
    """How thresholds are chosen."""
    return {
        "likeliest": "above one half",
        "youden": "where sensitivity and specificity have the greatest sum on validation",
        "sensitivity": f"the highest with a sensitivity of at least {settings.target:g} on validation",
        "specificity": f"the lowest with a specificity of at least {settings.target:g} on validation",
        "cost": f"where validation costs least, a miss as much as {settings.miss_cost:g} false alarms",
    }[settings.threshold]


def _candidates(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> _Candidates:
    thresholds, place = np.unique(scores, return_inverse=True)
    return _Candidates(
        np.append(thresholds, np.nextafter(thresholds[-1], np.inf)),
        _from_each_on(place[positive], len(thresholds)),
        _from_each_on(place[~positive], len(thresholds)),
        int(positive.sum()),
        int((~positive).sum()),
    )


def _from_each_on(places: Whole, thresholds: int) -> Whole:
    """How many images reach each threshold, and that above all of them."""
    counts = np.bincount(places, minlength=thresholds + 1)
    return np.asarray(counts[::-1].cumsum()[::-1], np.int64)


def _youden(found: _Candidates, _: Evaluation) -> int:
    return _nearest_to_middle(found, found.hits * found.negatives - found.false_alarms * found.positives)


def _sensitivity(found: _Candidates, settings: Evaluation) -> int:
    return int(np.flatnonzero(found.hits >= _enough(settings.target, found.positives))[-1])


def _specificity(found: _Candidates, settings: Evaluation) -> int:
    right = found.negatives - found.false_alarms
    return int(np.flatnonzero(right >= _enough(settings.target, found.negatives))[0])


def _cost(found: _Candidates, settings: Evaluation) -> int:
    cost = settings.miss_cost * (found.positives - found.hits) + found.false_alarms
    return _nearest_to_middle(found, -cost)


def _enough(share: float, images: int) -> float:
    """A share of whole images, which rounding must not make one more."""
    return share * images - 1e-9


def _nearest_to_middle(found: _Candidates, worth: NDArray[Any]) -> int:
    best = np.flatnonzero(worth >= worth.max() - 1e-9)
    return int(best[np.abs(found.thresholds[best] - MIDDLE).argmin()])


_RULES = {"youden": _youden, "sensitivity": _sensitivity, "specificity": _specificity, "cost": _cost}
