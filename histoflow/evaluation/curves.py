"""What figures are drawn from: the confusion matrix and the ROC curve of each class."""

from __future__ import annotations

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
    classes = range(probabilities.shape[1])
    of_class = labels.T == 1 if labels.ndim == 2 else [labels == index for index in classes]
    return tuple(roc_curve(of_class[index], probabilities[:, index]) for index in classes)


def roc_curve(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> RocCurve | None:
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    true = np.cumsum(positive[order])[last_of_tie]
    false = np.cumsum(~positive[order])[last_of_tie]
    if not len(order) or not true[-1] or not false[-1]:
        return None
    corners = _corners(np.append(0, false), np.append(0, true))
    return RocCurve(corners[0] / false[-1], corners[1] / true[-1])


def _corners(x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The points where the line turns; those on a straight stretch would only swell the figure's file."""
    turns = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(x)[1:] * np.diff(y)[:-1]
    keep = np.concatenate(([True], turns, [True]))
    return x[keep], y[keep]
