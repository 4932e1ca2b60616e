"""One temperature makes probabilities mean what they say (Guo and others, 2017).

It is the one at which the log loss of the validation split is least. That loss has a single minimum, as it is
convex in 1 / temperature. Which class is the likeliest does not change.
"""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]

LOWEST, HIGHEST = 0.1, 10.0
FEWEST = 10
"""Images; of fewer than these, a temperature is chance."""
_LEAST = float(np.finfo(np.float32).tiny)
"""Of a probability: what is nearer to 0 is 0 in float32. So no two that differ are made equal."""
_LEAST_OF_NO = 1e-12
"""Of what is left to 1: float32 has already rounded it away."""
_GAIN = 1e-9
"""What a temperature must save of the log loss; less is rounding."""


def tempered(probabilities: Probabilities, temperature: float, *, several: bool) -> Probabilities:
    """The same probabilities, less sure where the temperature is above 1.

    ``several``: each class is a question of its own, and the rows do not sum to 1.
    """
    if temperature == 1:
        return probabilities
    return np.asarray(np.exp(_log_tempered(*_logarithms(probabilities, several), temperature)))


def fit_temperature(probabilities: Probabilities, labels: Labels) -> tuple[float, str]:
    """The temperature, and why it is 1 or lies at a bound where that is so."""
    several = labels.ndim == 2
    if len(labels) < FEWEST:
        return 1.0, f"validation holds {len(labels)} images, and it takes {FEWEST}, so it stays 1"
    if _all_right(probabilities, labels):
        return 1.0, "every validation image is told rightly, and no finite one would be best, so it stays 1"
    found = _least_loss(probabilities, labels, several)
    if not LOWEST * 1.001 < found < HIGHEST / 1.001:
        bound = LOWEST if found < 1 else HIGHEST
        return bound, f"validation asks for one beyond {bound:g}, at which it was left"
    return found, _only_one_class(labels)


def _least_loss(probabilities: Probabilities, labels: Labels, several: bool) -> float:
    """1 where no other one is better, as where all classes are equally likely."""
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    of_yes, of_all = _logarithms(probabilities, several)

    def loss(log_temperature: float) -> float:
        found = _log_tempered(of_yes, of_all, exp(log_temperature))
        if not several:
            return float(-found[np.arange(len(labels)), labels].mean())
        others = _log_tempered(of_all[..., 1], of_all, exp(log_temperature))
        return float(-np.where(labels == 1, found, others).mean())

    best = minimize_scalar(
        loss, bounds=(log(LOWEST), log(HIGHEST)), method="bounded", options={"xatol": 1e-6}
    )
    return exp(best.x) if loss(best.x) < loss(0.0) - _GAIN else 1.0


def _logarithms(probabilities: Probabilities, several: bool) -> tuple[Probabilities, Probabilities]:
    """Of each class's probability, and of all that it must sum to 1 with (on the last axis)."""
    of_yes = np.log(np.clip(probabilities, _LEAST, 1))
    if not several:
        return of_yes, of_yes[:, None, :]
    return of_yes, np.stack((of_yes, np.log(np.clip(1 - probabilities, _LEAST_OF_NO, 1))), axis=-1)


def _log_tempered(chosen: Probabilities, of_all: Probabilities, temperature: float) -> Probabilities:
    scaled = of_all / temperature
    highest = scaled.max(axis=-1, keepdims=True)
    sums = highest[..., 0] + np.log(np.exp(scaled - highest).sum(axis=-1))
    return np.asarray(chosen / temperature - sums)


def _all_right(probabilities: Probabilities, labels: Labels) -> bool:
    """Without a tie: then the loss only falls as the temperature does."""
    if labels.ndim == 2:
        return bool(np.all(np.where(labels == 1, probabilities > 0.5, probabilities < 0.5)))
    of_truth = np.take_along_axis(probabilities, labels[:, None], axis=1)
    return bool(((probabilities >= of_truth).sum(axis=1) == 1).all())


def _only_one_class(labels: Labels) -> str:
    if labels.ndim == 2 or len(np.unique(labels)) > 1:
        return ""
    return f"all validation images are of class {labels[0]}, so that of the others it knows nothing"
