"""The built-in metrics of many resamples at once, for intervals.

Each function says what its namesake in ``metrics`` says of one split, for every row of weights: NaN where
that has no figure, the overall figure in the first column, those of the classes after it. Counts of all
resamples come from one matrix product, areas under the ROC curve from one sort and running sums. Both are
of whole numbers and exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histoflow import Params
from histoflow_plugins._counting import THRESHOLD, AverageParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]

_EXACT = 1 << 24
"""Up to here sums of whole numbers are exact in float32."""


@dataclass(frozen=True, eq=False)
class _Counts:
    """For each resample and class; ``images`` for each resample."""

    hits: Floats
    predicted: Floats
    actual: Floats
    images: Floats
    one_label: bool


def accuracy(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = _count(probabilities, labels, weights)
    images = counts.images[:, None]
    per_class = 1 - _divide(counts.predicted + counts.actual - 2 * counts.hits, images)
    overall = _divide(counts.hits.sum(axis=1), counts.images) if counts.one_label else per_class.mean(axis=1)
    return _beside(overall, per_class)


def exact_match(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    right = ((probabilities > THRESHOLD) == (labels == 1)).all(axis=1)
    (hits,), images = _sums(weights, [right[:, None]])
    return _divide(hits[:, 0], images)


def balanced_accuracy(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = _count(probabilities, labels, weights)
    recalls = _divide(counts.hits, counts.actual)
    if not counts.one_label:
        others = counts.images[:, None] - counts.actual
        recalls = (recalls + 1 - _divide(counts.predicted - counts.hits, others)) / 2
    return _beside(_mean_of_known(recalls), recalls)


def precision(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = _count(probabilities, labels, weights)
    return _averaged(params, counts, _divide(counts.hits, counts.predicted))


def recall(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = _count(probabilities, labels, weights)
    return _averaged(params, counts, _divide(counts.hits, counts.actual))


def f1(params: AverageParams, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    counts = _count(probabilities, labels, weights)
    return _averaged(params, counts, _divide(2 * counts.hits, counts.predicted + counts.actual))


def roc_auc(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    import numpy as np

    classes = probabilities.shape[1]
    if labels.ndim == 1 and classes == 2:
        area = _areas(probabilities[:, 1], labels == 1, weights)
        return np.column_stack([area, area, area])
    of_class = labels.T == 1 if labels.ndim == 2 else [labels == index for index in range(classes)]
    areas = [_areas(probabilities[:, index], of_class[index], weights) for index in range(classes)]
    per_class = np.column_stack(areas)
    return _beside(per_class.mean(axis=1), per_class)


def _areas(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    """The Mann-Whitney statistic: how many of those outside lie below each one inside; ties count half."""
    import numpy as np

    order = np.argsort(scores, kind="stable")
    inside, outside = order[positive[order]], order[~positive[order]]
    first, last = (np.searchsorted(scores[outside], scores[inside], side=side) for side in ("left", "right"))
    below = np.zeros((len(weights), len(outside) + 1))
    np.cumsum(np.take(weights, outside, axis=1), axis=1, dtype=np.float64, out=below[:, 1:])
    drawn = np.take(weights, inside, axis=1).astype(np.float64)
    lower = np.einsum("bi,bi->b", drawn, np.take(below, first, axis=1))
    tied = not np.array_equal(first, last)
    upper = np.einsum("bi,bi->b", drawn, np.take(below, last, axis=1)) if tied else lower
    return _divide(lower + upper, 2 * drawn.sum(axis=1) * below[:, -1])


def _count(probabilities: Floats, labels: Labels, weights: Weights) -> _Counts:
    import numpy as np

    if labels.ndim == 2:
        given, shown = probabilities > THRESHOLD, labels == 1
    else:
        classes = np.arange(probabilities.shape[1])
        given = probabilities.argmax(axis=1)[:, None] == classes
        shown = labels[:, None] == classes
    (hits, predicted, actual), images = _sums(weights, [given & shown, given, shown])
    return _Counts(hits, predicted, actual, images, one_label=labels.ndim == 1)


def _sums(weights: Weights, marks: Sequence[NDArray[np.bool_]]) -> tuple[list[Floats], Floats]:
    """How many images of each resample bear each mark (images × marks), and how many it has."""
    import numpy as np

    images = weights.sum(axis=1, dtype=np.float64)
    exact = np.float32 if images.max(initial=0) < _EXACT else np.float64
    found = weights.astype(exact, copy=False) @ np.hstack(marks).astype(exact)
    ends = np.cumsum([mark.shape[1] for mark in marks])[:-1]
    return np.split(found.astype(np.float64), ends, axis=1), images


def _averaged(params: AverageParams, counts: _Counts, figures: Floats) -> Floats:
    """As in ``metrics``: undefined figures of classes that occur count as 0; other classes are left out."""
    import numpy as np

    if params.average == "auto" and figures.shape[1] == 2 and counts.one_label:
        return _beside(figures[:, 1], figures)
    seen = counts.predicted + counts.actual > 0
    shares = counts.actual if params.average == "weighted" else seen.astype(np.float64)
    total = (shares * np.where(np.isnan(figures), 0.0, figures)).sum(axis=1)
    return _beside(_divide(total, shares.sum(axis=1)), figures)


def _mean_of_known(figures: Floats) -> Floats:
    import numpy as np

    known = ~np.isnan(figures)
    return _divide(np.where(known, figures, 0.0).sum(axis=1), known.sum(axis=1))


def _divide(parts: Floats, wholes: NDArray[np.float64 | np.int64]) -> Floats:
    """NaN where there is nothing to divide by."""
    import numpy as np

    shape = np.broadcast_shapes(parts.shape, wholes.shape)
    quotients: Floats = np.full(shape, np.nan)
    return np.divide(parts, wholes, out=quotients, where=np.broadcast_to(wholes != 0, shape))


def _beside(overall: Floats, per_class: Floats) -> Floats:
    import numpy as np

    return np.column_stack([overall, per_class])
