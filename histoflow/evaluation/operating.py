"""How right a model is in what it tells at its thresholds: sensitivity, specificity, precision and F1.

With two classes they are those of the second. Where images have several labels, the overall figure is over
all pairs of an image and a class, and each class has its own beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histoflow.evaluation.answers import shown
from histoflow.evaluation.rates import Rate, with_overall

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rates_at_thresholds(told: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Rate]:
    """``told`` is as ``Fitted.told`` has it, of two classes or of several labels."""
    said, true = (_columns(one) for one in (told, labels))
    hits, misses, alarms, rest = (
        (with_overall if said.shape[1] > 1 else np.asarray)(one.astype(np.int64))
        for one in (said & true, ~said & true, said & ~true, ~said & ~true)
    )
    return {
        "sensitivity": Rate(hits, hits + misses, "no image shows it"),
        "specificity": Rate(rest, rest + alarms, "every image shows it"),
        "precision": Rate(hits, hits + alarms, "it was told of no image"),
        "f1": Rate(2 * hits, 2 * hits + alarms + misses, "no image shows it, and it was told of none"),
    }


def _columns(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Images × questions: of two classes whether it is the second, of several whether each is there."""
    return labels == 1 if labels.ndim == 2 else shown(labels, 2)[:, 1:]
