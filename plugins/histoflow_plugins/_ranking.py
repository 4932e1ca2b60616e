"""Figures of how images are ranked, each class against the rest: no threshold takes part in them.

All images are sorted once; those of the class are then placed among the others, which takes no more than
running sums, of one split as of many resamples. They are of whole numbers and exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from histoflow import Params, Score
from histoflow_plugins._weighted import beside, divide, exact_type, totals
from histoflow_plugins._wording import Figures, about, missing, nothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]
    OfOneClass = Callable[[Floats, NDArray[np.bool_]], float | None]
    OfOneClassResampled = Callable[[Floats, NDArray[np.bool_], Weights], Floats]


def roc_auc(params: Params, probabilities: Floats, labels: Labels) -> Score:
    """How likely an image of a class is ranked above one that is not; ties count half.

    With two classes it is one figure, the same for both. With more it is the mean of each class
    against the rest, and None as soon as one class cannot be ranked: a mean over other classes would
    not compare with that of another split. The same where images have several labels.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    if _of_two(probabilities, labels):
        area = _area(probabilities[:, 1], labels == 1)
        return Score(value=area, per_class=(area, area), undefined=_unranked((area, area), labels))
    return _mean(_of_each(_area, probabilities, labels), labels)


def average_precision(params: Params, probabilities: Floats, labels: Labels) -> Score:
    """The precision at the rank of each image of a class, averaged over them; images that tie share a rank.

    With two classes it is that of the positive class (class 1), with more the mean of each class against the
    rest. It is None as roc_auc is: also of a class that all images show, where scikit-learn says 1 whatever
    the network does. By chance it is the share of images that are of the class, not one half.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    figures = _of_each(_average_precision, probabilities, labels)
    if _of_two(probabilities, labels):
        return Score(value=figures[1], per_class=figures, undefined=_unranked(figures, labels))
    return _mean(figures, labels)


def _of_two(probabilities: Floats, labels: Labels) -> bool:
    return labels.ndim == 1 and probabilities.shape[1] == 2


def _of_each(figure: OfOneClass, probabilities: Floats, labels: Labels) -> Figures:
    pairs = zip(probabilities.T, _members(labels, probabilities.shape[1]), strict=True)
    return tuple(figure(scores, inside) for scores, inside in pairs)


def _members(labels: Labels, classes: int) -> list[NDArray[np.bool_]]:
    """For each class, which images show it."""
    if labels.ndim == 2:
        return [column == 1 for column in labels.T]
    return [labels == index for index in range(classes)]


def _mean(figures: Figures, labels: Labels) -> Score:
    known = [figure for figure in figures if figure is not None]
    value = sum(known) / len(figures) if len(known) == len(figures) else None
    return Score(value=value, per_class=figures, undefined=_unranked(figures, labels))


def _unranked(figures: Figures, labels: Labels) -> str:
    absent = missing(figures)
    if labels.ndim == 2:
        return about(
            absent,
            "is shown by all images or none, so the average is undefined",
            "are shown by all images or none, so the average is undefined",
        )
    if len(absent) == len(figures):
        return f"all images are of class {labels[0]}"
    return about(
        absent, "has no images, so the average is undefined", "have no images, so the average is undefined"
    )


def _area(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """The Mann-Whitney statistic: each positive is placed among the sorted negatives."""
    import numpy as np

    inside, outside = np.sort(scores[positive]), np.sort(scores[~positive])
    pairs = len(inside) * len(outside)
    if not pairs:
        return None
    below = int(np.searchsorted(outside, inside, side="left").sum())
    not_above = int(np.searchsorted(outside, inside, side="right").sum())
    return (below + not_above) / (2 * pairs)


def _average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    import numpy as np

    inside, outside = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(inside) or not len(outside):
        return None
    hits = len(inside) - np.searchsorted(inside, inside, side="left")
    wrong = len(outside) - np.searchsorted(outside, inside, side="left")
    return float((hits / (hits + wrong)).mean())


# ── Of many resamples at once ───────────────────────────────────────────────────────────────────


def roc_auc_resampled(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    import numpy as np

    if _of_two(probabilities, labels):
        area = _areas(probabilities[:, 1], labels == 1, weights)
        return np.column_stack([area, area, area])
    per_class = _resampled_of_each(_areas, probabilities, labels, weights)
    return beside(per_class.mean(axis=1), per_class)


def average_precision_resampled(
    params: Params, probabilities: Floats, labels: Labels, weights: Weights
) -> Floats:
    per_class = _resampled_of_each(_average_precisions, probabilities, labels, weights)
    return beside(per_class[:, 1] if _of_two(probabilities, labels) else per_class.mean(axis=1), per_class)


def _resampled_of_each(
    figures: OfOneClassResampled, probabilities: Floats, labels: Labels, weights: Weights
) -> Floats:
    import numpy as np

    pairs = zip(probabilities.T, _members(labels, probabilities.shape[1]), strict=True)
    return np.column_stack([figures(scores, inside, weights) for scores, inside in pairs])


def _areas(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    """The Mann-Whitney statistic: how many of those outside lie below each one inside; ties count half."""
    import numpy as np

    inside, outside = _sorted(scores, positive)
    first, last = (np.searchsorted(scores[outside], scores[inside], side=side) for side in ("left", "right"))
    below = _running(np.take(weights, outside, axis=1))
    drawn = np.take(weights, inside, axis=1).astype(np.float64)
    lower = np.einsum("bi,bi->b", drawn, np.take(below, first, axis=1))
    tied = not np.array_equal(first, last)
    upper = np.einsum("bi,bi->b", drawn, np.take(below, last, axis=1)) if tied else lower
    return divide(lower + upper, 2 * drawn.sum(axis=1) * below[:, -1].astype(np.float64))


def _average_precisions(scores: Floats, positive: NDArray[np.bool_], weights: Weights) -> Floats:
    import numpy as np

    inside, outside = _sorted(scores, positive)
    drawn = np.take(weights, inside, axis=1)
    hits, members = _at_or_above(scores[inside], scores[inside], drawn)
    told, others = _at_or_above(scores[inside], scores[outside], np.take(weights, outside, axis=1))
    told += hits
    # Of an image that was not drawn the precision may be anything, as it counts nothing.
    precision = np.divide(hits, np.maximum(told, 1, out=told), dtype=np.float64)
    return divide(np.einsum("bi,bi->b", drawn, precision), np.where(others > 0, members, 0))


def _at_or_above(
    places: Floats, scores: Floats, drawn: Weights
) -> tuple[NDArray[np.float32 | np.float64], Floats]:
    """Resamples × places: how many of these images stand at each place or above; and how many there are."""
    import numpy as np

    below = _running(drawn)
    everything = below[:, -1:].copy()
    found = np.take(below, np.searchsorted(scores, places), axis=1)
    return np.subtract(everything, found, out=found), everything[:, 0].astype(np.float64)


def _sorted(scores: Floats, positive: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images inside and outside of a class, the lowest score first."""
    import numpy as np

    order = np.argsort(scores)
    return order[positive[order]], order[~positive[order]]


def _running(drawn: Weights) -> Weights | Floats:
    """Resamples × (1 + images): how many stand before each place, and at last all of them."""
    import numpy as np

    sums = np.zeros((len(drawn), drawn.shape[1] + 1), exact_type(totals(drawn)))
    np.cumsum(drawn, axis=1, out=sums[:, 1:], dtype=sums.dtype)
    return sums
