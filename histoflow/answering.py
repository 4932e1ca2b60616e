"""From the probabilities that a network gives to what is said of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histoflow.data.predictions import Answers
from histoflow.evaluation.fitting import Fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.components import Task


def bare(model: str, task: Task) -> Fitted:
    """Nothing is fitted: probabilities stay as they are; told is the likeliest class, or all above a half."""
    return Fitted(model=model, task=task, images=0)


NOT_FINITE = "the network gives numbers for it that are not finite"


def finite(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which images the network says anything of that is a number."""
    return np.asarray(np.isfinite(probabilities).all(axis=1))


def answers_of(fitted: Fitted, probabilities: NDArray[np.float64]) -> Answers:
    calibrated = fitted.calibrated(probabilities)
    told = fitted.told(calibrated)
    return Answers(
        probabilities=calibrated,
        told=told,
        confidence=_confidence(calibrated, told),
        sets=fitted.sets(calibrated),
    )


def _confidence(calibrated: NDArray[np.float64], told: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of what is told; of several answers (shown or not), of that which is least sure."""
    if told.ndim == 1:
        return np.asarray(np.take_along_axis(calibrated, told[:, None], axis=1)[:, 0])
    return np.asarray(np.where(told, calibrated, 1 - calibrated).min(axis=1))
