"""Figures that are made of sums over images: for all resamples they come of one product with the weights.

Where images have several labels, each class is a question of its own, and a figure is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histoflow.components import Metric, Params, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]

SHOWN_ABOVE = 0.5
"""An image is told to show a class of several at a higher probability."""
BINS = 15


@dataclass(frozen=True, eq=False)
class Summed:
    """What is summed of each image, and what the sums come to."""

    columns: NDArray[np.float64]
    """Images × sums."""
    figures: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Resamples × sums → resamples × figures, as a metric's ``resampled`` has them."""

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        return self.figures(weights @ self.columns)

    def score(self) -> Score:
        figures = self.figures(self.columns.sum(axis=0, keepdims=True))[0]
        value, *per_class = (None if np.isnan(figure) else float(figure) for figure in figures)
        missing = ", ".join(str(index) for index, figure in enumerate(per_class) if figure is None)
        undefined = f"there are no images of class {missing}" if missing else ""
        return Score(value=value, per_class=tuple(per_class) or None, undefined=undefined)


def told(probabilities: Probabilities, labels: Labels) -> NDArray[np.bool_]:
    """Images × classes: which a model tells of each image."""
    if labels.ndim == 2:
        return probabilities > SHOWN_ABOVE
    return _one_of(probabilities.argmax(axis=1), probabilities.shape[1])


def shown(labels: Labels, classes: int) -> NDArray[np.bool_]:
    """Images × classes: which are true of each image."""
    return labels == 1 if labels.ndim == 2 else _one_of(labels, classes)


def _one_of(numbers: Labels, classes: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = numbers[:, None] == np.arange(classes)
    return found


def _recalls(probabilities: Probabilities, labels: Labels) -> Summed:
    members = shown(labels, probabilities.shape[1])
    hits = members & told(probabilities, labels)
    both = [np.column_stack((of.sum(axis=1), of)) for of in (hits, members)]
    return Summed(np.hstack(both).astype(np.float64), _ratios)


def _brier(probabilities: Probabilities, labels: Labels) -> Summed:
    errors = (probabilities - shown(labels, probabilities.shape[1])) ** 2
    of_each = labels.ndim == 2 or probabilities.shape[1] == 2
    return _mean(errors.mean(axis=1) if of_each else errors.sum(axis=1))


def _log_loss(probabilities: Probabilities, labels: Labels) -> Summed:
    given_to_truth = (
        probabilities[np.arange(len(labels)), labels][:, None]
        if labels.ndim == 1
        else np.where(labels == 1, probabilities, 1 - probabilities)
    )
    smallest = np.finfo(
        np.float64
    ).eps  # as in scikit-learn: a certainty that is wrong costs 36, not infinity
    return _mean(-np.log(np.clip(given_to_truth, smallest, 1)).mean(axis=1))


def _calibration_error(probabilities: Probabilities, labels: Labels) -> Summed:
    if labels.ndim == 2:
        sure, true = probabilities, labels == 1
    else:
        sure = probabilities.max(axis=1, keepdims=True)
        true = (probabilities.argmax(axis=1) == labels)[:, None]
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)  # each holds its upper end
    columns = np.zeros((len(labels), BINS + 1))
    columns[:, -1] = sure.shape[1]
    np.add.at(columns, (np.arange(len(labels))[:, None], bins), sure - true)
    return Summed(columns, lambda sums: np.abs(sums[:, :-1]).sum(axis=1, keepdims=True) / sums[:, -1:])


def _mean(values: NDArray[np.float64]) -> Summed:
    return Summed(np.column_stack((values, np.ones(len(values)))), _ratios)


def _ratios(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first half of the sums by the second."""
    parts, wholes = np.hsplit(sums, 2)
    return np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)


def _metric(
    name: str, summary: str, summed: Callable[[Probabilities, Labels], Summed], *, higher_is_better: bool
) -> Metric[Params]:
    return Metric(
        name=name,
        summary=summary,
        params=Params,
        score=lambda _, probabilities, labels: summed(probabilities, labels).score(),
        resampled=lambda _, probabilities, labels, weights: summed(probabilities, labels).resampled(weights),
        tasks=frozenset(("binary", "multiclass", "multilabel")),
        higher_is_better=higher_is_better,
    )


RECALL = _metric(
    "recall",
    "Of the images of each class, the share told to be of it",
    _recalls,
    higher_is_better=True,
)
BRIER = _metric(
    "brier",
    "Squared error of the probabilities, summed over classes; with two classes, of one of them",
    _brier,
    higher_is_better=False,
)
LOG_LOSS = _metric(
    "log_loss",
    "Minus the logarithm of the probability given to what is true",
    _log_loss,
    higher_is_better=False,
)
CALIBRATION_ERROR = _metric(
    "calibration_error",
    "How far the likeliest class's probability is from the share that is right, in bins (ECE)",
    _calibration_error,
    higher_is_better=False,
)
