"""Agreement of predictions and labels beyond that of chance: Cohen's kappa and Matthews' coefficient.

Both are computed of whole numbers, of one split as of many resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from histoflow import Params, Score
from histoflow_plugins._weighted import Counts, beside, count, divide, mean_of_known, once, sums, told
from histoflow_plugins._wording import about, joined, nothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]


class KappaParams(Params):
    weights: Literal["none", "linear", "quadratic"] = "none"
    """What it costs to take one class for another: none the same for all; linear and quadratic more, the
    further they stand apart in the order of the classes. Grades and stages are weighted as quadratic."""


def cohen_kappa(params: KappaParams, probabilities: Floats, labels: Labels) -> Score:
    """How much of the disagreement that chance would leave is gone: 1 is agreement, 0 is chance.

    Chance means predictions as frequent as these, but given to images without looking. That of a class is
    of the class against the rest, where weights make no difference.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    counts = count(probabilities, labels, once(labels))
    figures = cohen_kappa_resampled(params, probabilities, labels, once(labels))
    return told(figures, _why_no_kappa(counts))


def cohen_kappa_resampled(
    params: KappaParams, probabilities: Floats, labels: Labels, weights: Weights
) -> Floats:
    import numpy as np

    counts = count(probabilities, labels, weights)
    costs = _costs(params, probabilities.shape[1])
    cost_of_each = costs[labels, probabilities.argmax(axis=1)]
    (found,), images = sums(weights, [cost_of_each[:, None]])
    expected = ((counts.actual @ costs) * counts.predicted).sum(axis=1)
    overall = 1 - divide(found[:, 0] * images, expected)
    actual, predicted, total = counts.actual, counts.predicted, images[:, None]
    wrong = (actual + predicted - 2 * counts.hits) * total
    by_chance = actual * (total - predicted) + predicted * (total - actual)
    return np.column_stack([overall, 1 - divide(wrong, by_chance)])


def _costs(params: KappaParams, classes: int) -> NDArray[np.int64]:
    """Label × prediction."""
    import numpy as np

    places = np.arange(classes)
    apart: NDArray[np.int64] = np.abs(places[:, None] - places)
    powers = {"none": np.minimum(apart, 1), "linear": apart, "quadratic": apart**2}
    return powers[params.weights]


def _why_no_kappa(counts: Counts) -> str:
    seen = (counts.actual + counts.predicted)[0] > 0
    if seen.sum() == 1:
        return f"all images are of class {seen.argmax()} and were given to it, as they would be by chance"
    absent = (~seen).nonzero()[0].tolist()
    return about(
        absent, "occurs neither among labels nor predictions", "occur neither among labels nor predictions"
    )


def mcc(params: Params, probabilities: Floats, labels: Labels) -> Score:
    """Matthews' correlation of predictions and labels: 1 is agreement, 0 is chance, -1 is the opposite.

    With more than two classes it is Gorodkin's; that of a class is of the class against the rest. It is None
    where all images are of one class or were given to one, where scikit-learn says 0.

    Where images have several labels it is the mean over the classes: one that all images show, or none, is
    left out, and one that was given to all, or none, counts as 0.
    """
    if not len(labels):
        return nothing(probabilities.shape[1])
    counts = count(probabilities, labels, once(labels))
    why = _why_no_mcc if counts.one_label else _why_no_mcc_of_several
    return told(_mcc(counts), why(counts))


def mcc_resampled(params: Params, probabilities: Floats, labels: Labels, weights: Weights) -> Floats:
    return _mcc(count(probabilities, labels, weights))


def _mcc(counts: Counts) -> Floats:
    import numpy as np

    hits, predicted, actual, images = counts.hits, counts.predicted, counts.actual, counts.images[:, None]
    spreads = predicted * (images - predicted), actual * (images - actual)
    per_class = divide(hits * images - predicted * actual, np.sqrt(spreads[0] * spreads[1]))
    if not counts.one_label:
        counted = np.where(spreads[1] > 0, np.nan_to_num(per_class), np.nan)
        return beside(mean_of_known(counted), per_class)
    # Gorodkin's is made of the sums over the classes, before they are divided.
    together = (hits * images - predicted * actual).sum(axis=1)
    return beside(divide(together, np.sqrt(spreads[0].sum(axis=1) * spreads[1].sum(axis=1))), per_class)


def _why_no_mcc(counts: Counts) -> str:
    actual, predicted = counts.actual[0] > 0, counts.predicted[0] > 0
    if actual.sum() == 1:
        return f"all images are of class {actual.argmax()}"
    if predicted.sum() == 1:
        return f"all images were given to class {predicted.argmax()}"
    never = (actual & ~predicted).nonzero()[0].tolist()
    return joined(
        about((~actual).nonzero()[0].tolist(), "has no images", "have no images"),
        about(never, "was never predicted", "were never predicted"),
    )


def _why_no_mcc_of_several(counts: Counts) -> str:
    alike = (counts.actual[0] == 0) | (counts.actual[0] == counts.images)
    told_alike = (counts.predicted[0] == 0) | (counts.predicted[0] == counts.images)
    return joined(
        about(
            alike.nonzero()[0].tolist(),
            "is shown by all images or none and is left out of the average",
            "are shown by all images or none and are left out of the average",
        ),
        about(
            (told_alike & ~alike).nonzero()[0].tolist(),
            "was given to all images or none and counts as 0 in the average, as in scikit-learn",
            "were given to all images or none and count as 0 in the average, as in scikit-learn",
        ),
    )
