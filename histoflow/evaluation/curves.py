"""What figures are drawn from: the confusion matrix, the ROC and the precision-recall curve of each class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The corners of one class's curve against the rest, from (0, 0) to (1, 1)."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]

    @property
    def area(self) -> float:
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """One point for each threshold, from the highest on: the more are found, the less certain they are."""

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    share: float
    """Of the images that show the class: the precision of guessing."""

    @property
    def area(self) -> float:
        """Average precision: each step of recall counts with the precision at its end."""
        return float(np.diff(self.recall, prepend=0) @ self.precision)


def class_counts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Images of each class; labels are one number an image, or images × classes of 0 and 1."""
    found = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    return [int(count) for count in found]


def confusion_matrix(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """How many images of each class (row) were given to each class (column)."""
    pairs = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def roc_curves(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[RocCurve | None, ...]:
    """Each class's curve; None for a class that no image, or every image, belongs to."""
    return tuple(roc_curve(*pair) for pair in _class_by_class(labels, probabilities))


def precision_recall_curves(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[PrecisionRecallCurve | None, ...]:
    """Each class's curve; None for a class that no image belongs to."""
    return tuple(precision_recall_curve(*pair) for pair in _class_by_class(labels, probabilities))


def _class_by_class(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.float64]]]:
    for index, scores in enumerate(probabilities.T):
        yield labels[:, index] == 1 if labels.ndim == 2 else labels == index, scores


def precision_recall_curve(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> PrecisionRecallCurve | None:
    if not positive.any():
        return None
    true, false = _found(positive, scores)
    return PrecisionRecallCurve(true / true[-1], true / (true + false), float(positive.mean()))


def _found(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """True and false positives at each threshold, from the highest on."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    return np.cumsum(positive[order])[last_of_tie], np.cumsum(~positive[order])[last_of_tie]


def roc_curve(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> RocCurve | None:
    if positive.all() or not positive.any():
        return None
    true, false = _found(positive, scores)
    corners = _corners(np.append(0, false), np.append(0, true))
    return RocCurve(corners[0] / false[-1], corners[1] / true[-1])


def _corners(x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The points where the line turns; those on a straight stretch would only swell the figure's file."""
    turns = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(x)[1:] * np.diff(y)[:-1]
    keep = np.concatenate(([True], turns, [True]))
    return x[keep], y[keep]
