"""Figures of what is predicted: accuracy, precision, recall, specificity and their kin, from counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histoflow import Params, Score
from histoflow_plugins._counting import THRESHOLD, AverageParams, Counts, count, ratios
from histoflow_plugins._wording import NO_IMAGES, Figures, about, joined, missing, nothing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]


def accuracy(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The share of images given their class; for one class, the share rightly given to it or not.

    Where images have several labels it is the mean of the latter over the classes, as MedMNIST reports it:
    the share of right answers to 'does this image show this class?'. It is high where classes are rare,
    whatever the network says; ``exact_match`` is the share of images with all answers right.
    """
    counts = count(probabilities, labels)
    images = counts.images
    if not images:
        return nothing(probabilities.shape[1])
    pairs = zip(counts.hits, counts.predicted, counts.actual, strict=True)
    per_class = tuple(1 - (predicted + actual - 2 * hits) / images for hits, predicted, actual in pairs)
    value = sum(counts.hits) / images if counts.one_label else sum(per_class) / len(per_class)
    return Score(value=value, per_class=per_class)


def exact_match(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The share of images of which each class is told rightly, whether it shows it or not."""
    if not len(labels):
        return nothing(probabilities.shape[1])
    right = ((probabilities > THRESHOLD) == (labels == 1)).all(axis=1)
    return Score(value=float(right.mean()))


def balanced_accuracy(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The mean recall over the classes that have images; a class without any is left out.

    Where images have several labels, each class is a question of its own: the mean over the classes of the
    mean recall of 'yes' and of 'no'; a class that all images show, or none, is left out.
    """
    counts = count(probabilities, labels)
    if not counts.images:
        return nothing(probabilities.shape[1])
    if not counts.one_label:
        return _balanced_over_questions(counts)
    recalls = ratios(counts.hits, counts.actual)
    known = [recall for recall in recalls if recall is not None]
    undefined = about(
        missing(recalls),
        "has no images and is left out of the average",
        "have no images and are left out of the average",
    )
    return Score(value=sum(known) / len(known), per_class=recalls, undefined=undefined)


def _balanced_over_questions(counts: Counts) -> Score:
    figures: list[float | None] = []
    for hits, predicted, actual in zip(counts.hits, counts.predicted, counts.actual, strict=True):
        others = counts.images - actual
        defined = actual and others
        figures.append((hits / actual + 1 - (predicted - hits) / others) / 2 if defined else None)
    known = [figure for figure in figures if figure is not None]
    undefined = about(
        missing(tuple(figures)),
        "is shown by all images or none and is left out of the average",
        "are shown by all images or none and are left out of the average",
    )
    value = sum(known) / len(known) if known else None
    return Score(value=value, per_class=tuple(figures), undefined=undefined)


def precision(params: AverageParams, probabilities: Probabilities, labels: Labels) -> Score:
    """Of the images given to a class, the share that belongs to it; None for a class never predicted."""
    counts = count(probabilities, labels)
    figures = ratios(counts.hits, counts.predicted)
    return _averaged(params, counts, figures, "was never predicted", "were never predicted")


def recall(params: AverageParams, probabilities: Probabilities, labels: Labels) -> Score:
    """Of the images of a class, the share given to it; None for a class without images."""
    counts = count(probabilities, labels)
    figures = ratios(counts.hits, counts.actual)
    return _averaged(params, counts, figures, "has no images", "have no images")


def specificity(params: AverageParams, probabilities: Probabilities, labels: Labels) -> Score:
    """Of the images outside a class, the share not given to it; None for a class that all images show.

    Such a class is left out of the average, as is one that occurs neither among labels nor predictions:
    of that one nothing else can be told than that no image was given to it.
    """
    counts = count(probabilities, labels)
    if not counts.images:
        return nothing(probabilities.shape[1])
    rows = zip(counts.hits, counts.predicted, counts.actual, strict=True)
    rejected = (counts.images - predicted - actual + hits for hits, predicted, actual in rows)
    figures = ratios(rejected, (counts.images - actual for actual in counts.actual))
    absent = missing(figures)
    if params.average == "auto" and len(figures) == 2 and counts.one_label:
        return Score(
            value=figures[1], per_class=figures, undefined=about(absent, "is shown by all images", "")
        )
    value = _mean(params, counts, figures, [index for index in counts.seen if index not in absent])
    none = "no image shows any class" if value is None and not any(counts.actual) else ""
    left_out = about(
        absent,
        "is shown by all images and is left out of the average",
        "are shown by all images and are left out of the average",
    )
    return Score(value=value, per_class=figures, undefined=joined(none, left_out))


def f1(params: AverageParams, probabilities: Probabilities, labels: Labels) -> Score:
    """The harmonic mean of precision and recall, from counts: 2·hits / (predicted + actual).

    It is 0 for a class that has images and was never predicted, and None for one that has neither.
    """
    counts = count(probabilities, labels)
    wholes = (predicted + actual for predicted, actual in zip(counts.predicted, counts.actual, strict=True))
    figures = ratios((2 * hits for hits in counts.hits), wholes)
    return _averaged(
        params, counts, figures, "has no images and no predictions", "have no images and no predictions"
    )


def _averaged(params: AverageParams, counts: Counts, figures: Figures, one: str, many: str) -> Score:
    """One figure from those of the classes, by scikit-learn's default rule and in the open.

    A class that occurs among labels or predictions counts as 0 where its own figure is undefined,
    so that a network that ignores a class is not flattered; one that occurs in neither is left out.
    """
    if not counts.images:
        return Score(value=None, per_class=figures, undefined=NO_IMAGES)
    absent = missing(figures)
    if params.average == "auto" and len(figures) == 2 and counts.one_label:
        return Score(value=figures[1], per_class=figures, undefined=about(absent, one, many))
    reasons = (
        about(
            [index for index in absent if index in counts.seen],
            f"{one} and counts as 0 in the average, as in scikit-learn",
            f"{many} and count as 0 in the average, as in scikit-learn",
        ),
        about(
            [index for index in absent if index not in counts.seen],
            "occurs neither among labels nor predictions and is left out of the average",
            "occur neither among labels nor predictions and are left out of the average",
        ),
    )
    value = _mean(params, counts, figures, counts.seen)
    none = "no image shows any class" if value is None else ""
    return Score(value=value, per_class=figures, undefined=joined(none, *reasons))


def _mean(params: AverageParams, counts: Counts, figures: Figures, classes: list[int]) -> float | None:
    """None where no class is to be averaged, or none of them has images to be weighted by."""
    weights = {index: counts.actual[index] if params.average == "weighted" else 1 for index in classes}
    total = sum(weight * (figures[index] or 0.0) for index, weight in weights.items())
    return total / sum(weights.values()) if any(weights.values()) else None
