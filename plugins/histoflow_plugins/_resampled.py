"""The figures of ``_decisions`` of many resamples at once, for intervals.

Each function says what its namesake says of one split, for every row of weights: NaN where that has no
figure, the overall figure in the first column, those of the classes after it. The counts of all resamples
come from one matrix product of whole numbers, and are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from histoflow import Params
from histoflow_plugins._counting import THRESHOLD, AverageParams
from histoflow_plugins._weighted import Counts, beside, count, divide, mean_of_known, sums

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]


def accuracy(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    images = counts.images[:, None]
    per_class = 1 - divide(counts.predicted + counts.actual - 2 * counts.hits, images)
    overall = divide(counts.hits.sum(axis=1), counts.images) if counts.one_label else per_class.mean(axis=1)
    return beside(overall, per_class)


def exact_match(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    right = ((probabilities > THRESHOLD) == (labels == 1)).all(axis=1)
    (hits,), images = sums(weights, [right[:, None]])
    return divide(hits[:, 0], images)


def balanced_accuracy(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    recalls = divide(counts.hits, counts.actual)
    if not counts.one_label:
        others = counts.images[:, None] - counts.actual
        recalls = (recalls + 1 - divide(counts.predicted - counts.hits, others)) / 2
    return beside(mean_of_known(recalls), recalls)


def precision(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    return _averaged(params, counts, divide(counts.hits, counts.predicted))


def recall(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    return _averaged(params, counts, divide(counts.hits, counts.actual))


def specificity(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    others = counts.images[:, None] - counts.actual
    figures = divide(others - counts.predicted + counts.hits, others)
    return _averaged(params, counts, figures, leave_out_undefined=True)


def f1(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = count(probabilities, labels, weights)
    return _averaged(params, counts, divide(2 * counts.hits, counts.predicted + counts.actual))


def _averaged(
    params: AverageParams, counts: Counts, figures: Floats, *, leave_out_undefined: bool = False
) -> Floats:
    """Undefined figures of classes that occur count as 0, or are left out; other classes always are."""
    import numpy as np

    if params.average == "auto" and figures.shape[1] == 2 and counts.one_label:
        return beside(figures[:, 1], figures)
    undefined = np.isnan(figures)
    averaged = (counts.predicted + counts.actual > 0) & ~(undefined & leave_out_undefined)
    shares = np.where(averaged, counts.actual if params.average == "weighted" else 1.0, 0.0)
    total = (shares * np.where(undefined, 0.0, figures)).sum(axis=1)
    return beside(divide(total, shares.sum(axis=1)), figures)
