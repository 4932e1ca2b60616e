"""Figures of the probabilities themselves: Brier score, log loss and calibration error.

All are made of sums over images, so that those of many resamples come of one product with their weights.
Less is better. Where images have several labels, each class is a question of its own, and the overall
figure is the mean over the classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from histoflow import Params, Score
from histoflow_plugins._weighted import beside, divide, once, sums, told, totals
from histoflow_plugins._wording import about, nothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]


class BinParams(Params):
    bins: int = Field(15, ge=2, le=100)
    """Probabilities are put into so many bins of equal width; each holds its upper end."""


def brier(params: Params, probabilities: Floats, labels: Labels) -> Score:
    """The squared error of the probabilities.

    With two classes it is that of one of them, the same for both; with more the sum over the classes, each
    of which has the error of its own probability.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    return told(brier_resampled(params, probabilities, labels, once(labels)), "")


def brier_resampled(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    errors = (probabilities - _shown(labels, probabilities.shape[1])) ** 2
    per_class = _means(weights, errors)
    halved = labels.ndim == 2 or probabilities.shape[1] == 2
    return beside(per_class.mean(axis=1) if halved else per_class.sum(axis=1), per_class)


def log_loss(params: Params, probabilities: Floats, labels: Labels) -> Score:
    """Minus the logarithm of the probability given to what is true; that of a class is over its images.

    A certainty that is wrong costs 36, as in scikit-learn, and not infinity. Where images have several
    labels, that of a class is over all images: of the probability given to its label, 0 or 1.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    absent = [] if labels.ndim == 2 else _absent(labels, probabilities.shape[1])
    figures = log_loss_resampled(params, probabilities, labels, once(labels))
    return told(figures, about(absent, "has no images", "have no images"))


def log_loss_resampled(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    import numpy as np

    shown = _shown(labels, probabilities.shape[1])
    given = np.clip(np.where(shown, probabilities, 1 - probabilities), np.finfo(np.float64).eps, 1)
    if labels.ndim == 2:
        per_class = _means(weights, -np.log(given))
        return beside(per_class.mean(axis=1), per_class)
    losses = _sums(weights, np.where(shown, -np.log(given), 0.0))
    (of_class,), images = sums(weights, [shown])
    return beside(divide(losses.sum(axis=1), images), divide(losses, of_class))


def _absent(labels: Labels, classes: int) -> list[int]:
    return sorted(set(range(classes)) - set(labels.tolist()))


def ece(params: BinParams, probabilities: Floats, labels: Labels) -> Score:
    """How far probabilities are from the share that is right, in bins: the expected calibration error.

    It is of the likeliest class's probability, and whether that class is right; where images have several
    labels, of each probability. That of a class is of its own probability in all images.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    return told(ece_resampled(params, probabilities, labels, once(labels)), "")


def ece_resampled(params: BinParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    import numpy as np

    shown = _shown(labels, probabilities.shape[1])
    gaps = _gaps(params.bins, probabilities, shown, weights)
    if labels.ndim == 2:
        together = gaps.sum(axis=1, keepdims=True) / probabilities.shape[1]
    else:
        right = (probabilities.argmax(axis=1) == labels)[:, None]
        together = _gaps(params.bins, probabilities.max(axis=1, keepdims=True), right, weights)
    apart = np.abs(np.hstack([together, gaps])).sum(axis=2)
    return divide(apart, totals(weights)[:, None])


def _gaps(bins: int, probabilities: Floats, true: NDArray[np.bool_], weights: Weights) -> Floats:
    """Resamples × questions × bins: how far the probabilities lie above what came true, in sum."""
    import numpy as np

    images, questions = probabilities.shape
    edges = np.arange(1, bins) / bins
    places = np.digitize(probabilities, edges, right=True) + bins * np.arange(questions)
    columns = np.zeros((images, questions * bins))
    np.put_along_axis(columns, places, probabilities - true, axis=1)
    return _sums(weights, columns).reshape(len(weights), questions, bins)


def _sums(weights: Weights, values: Floats) -> Floats:
    import numpy as np

    found: Floats = np.matmul(weights, values, dtype=np.float64)
    return found


def _means(weights: Weights, values: Floats) -> Floats:
    return divide(_sums(weights, values), totals(weights)[:, None])


def _shown(labels: Labels, classes: int) -> NDArray[np.bool_]:
    """Images × classes: which are true of each image."""
    import numpy as np

    shown: NDArray[np.bool_] = labels == 1 if labels.ndim == 2 else labels[:, None] == np.arange(classes)
    return shown
