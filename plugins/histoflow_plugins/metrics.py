"""Figures of merit: accuracy, balanced accuracy, precision, recall, F1 and ROC AUC.

They are defined as in scikit-learn, which the tests compare them with, but computed from counts and
sorted scores in plain numpy: validation asks for all of them after every epoch.

The prediction is the class of the highest probability, the first of them in a tie; where images
have several labels (images × classes of 0 and 1), every class with a probability above 0.5. A figure
that the split cannot tell (the recall of a class without images) is None, and ``Score.undefined`` says
why and what that means for the average. Classes are numbered from 0, as in the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from histoflow import ONE_LABEL, Metric, Params, Score, Task, hookimpl
from histoflow_plugins import _resampled as resampled
from histoflow_plugins._counting import (
    THRESHOLD,
    AverageParams,
    Counts,
    Figures,
    area_under_roc,
    count,
    ratios,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]


_NO_IMAGES = "there are no images"


def _without(figures: Figures) -> list[int]:
    return [index for index, figure in enumerate(figures) if figure is None]


def _about(classes: Sequence[int], one: str, many: str) -> str:
    """'class 3 has …' or 'classes 3 and 5 have …', or nothing where there are no such classes."""
    if len(classes) < 2:
        return "".join(f"class {index} {one}" for index in classes)
    *head, last = map(str, classes)
    return f"classes {', '.join(head)} and {last} {many}"


def accuracy(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The share of images given their class; for one class, the share rightly given to it or not.

    Where images have several labels it is the mean of the latter over the classes, as MedMNIST reports it:
    the share of right answers to 'does this image show this class?'. It is high where classes are rare,
    whatever the network says; ``exact_match`` is the share of images with all answers right.
    """
    counts = count(probabilities, labels)
    images = counts.images
    if not images:
        return _nothing(probabilities)
    pairs = zip(counts.hits, counts.predicted, counts.actual, strict=True)
    per_class = tuple(1 - (predicted + actual - 2 * hits) / images for hits, predicted, actual in pairs)
    value = sum(counts.hits) / images if counts.one_label else sum(per_class) / len(per_class)
    return Score(value=value, per_class=per_class)


def exact_match(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The share of images of which each class is told rightly, whether it shows it or not."""
    if not len(labels):
        return _nothing(probabilities)
    right = ((probabilities > THRESHOLD) == (labels == 1)).all(axis=1)
    return Score(value=float(right.mean()))


def balanced_accuracy(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """The mean recall over the classes that have images; a class without any is left out.

    Where images have several labels, each class is a question of its own: the mean over the classes of the
    mean recall of 'yes' and of 'no'; a class that all images show, or none, is left out.
    """
    counts = count(probabilities, labels)
    if not counts.images:
        return _nothing(probabilities)
    if not counts.one_label:
        return _balanced_over_questions(counts)
    recalls = ratios(counts.hits, counts.actual)
    known = [recall for recall in recalls if recall is not None]
    undefined = _about(
        _without(recalls),
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
    undefined = _about(
        _without(tuple(figures)),
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


def roc_auc(params: Params, probabilities: Probabilities, labels: Labels) -> Score:
    """How likely an image of a class is ranked above one that is not; ties count half.

    With two classes it is one figure, the same for both. With more it is the mean of each class
    against the rest, and None as soon as one class cannot be ranked: a mean over other classes would
    not compare with that of another split. The same where images have several labels.
    """
    import numpy as np

    if not len(labels):
        return _nothing(probabilities)
    classes = probabilities.shape[1]
    if labels.ndim == 2:
        return _auc_of_several(probabilities, labels)
    if classes == 2:
        area = area_under_roc(probabilities[:, 1], labels == 1)
        undefined = "" if area is not None else f"all images are of class {labels[0]}"
        return Score(value=area, per_class=(area, area), undefined=undefined)
    areas = tuple(area_under_roc(probabilities[:, index], labels == index) for index in range(classes))
    known = [area for area in areas if area is not None]
    value = float(np.mean(known)) if len(known) == classes else None
    return Score(value=value, per_class=areas, undefined=_unranked(areas, labels))


def _auc_of_several(probabilities: Probabilities, labels: Labels) -> Score:
    pairs = zip(probabilities.T, labels.T, strict=True)
    areas = tuple(area_under_roc(scores, shown == 1) for scores, shown in pairs)
    known = [area for area in areas if area is not None]
    undefined = _about(
        _without(areas),
        "is shown by all images or none, so the average is undefined",
        "are shown by all images or none, so the average is undefined",
    )
    value = sum(known) / len(areas) if len(known) == len(areas) else None
    return Score(value=value, per_class=areas, undefined=undefined)


def _nothing(probabilities: Probabilities) -> Score:
    return Score(value=None, per_class=(None,) * probabilities.shape[1], undefined=_NO_IMAGES)


def _averaged(params: AverageParams, counts: Counts, figures: Figures, one: str, many: str) -> Score:
    """One figure from those of the classes, by scikit-learn's default rule and in the open.

    A class that occurs among labels or predictions counts as 0 where its own figure is undefined,
    so that a network that ignores a class is not flattered; one that occurs in neither is left out.
    """
    if not counts.images:
        return Score(value=None, per_class=figures, undefined=_NO_IMAGES)
    missing = _without(figures)
    if params.average == "auto" and len(figures) == 2 and counts.one_label:
        return Score(value=figures[1], per_class=figures, undefined=_about(missing, one, many))
    reasons = (
        _about(
            [index for index in missing if index in counts.seen],
            f"{one} and counts as 0 in the average, as in scikit-learn",
            f"{many} and count as 0 in the average, as in scikit-learn",
        ),
        _about(
            [index for index in missing if index not in counts.seen],
            "occurs neither among labels nor predictions and is left out of the average",
            "occur neither among labels nor predictions and are left out of the average",
        ),
    )
    value = _mean(params, counts, figures)
    nothing = "no image shows any class" if value is None else ""
    return Score(value=value, per_class=figures, undefined="; ".join(filter(None, (nothing, *reasons))))


def _mean(params: AverageParams, counts: Counts, figures: Figures) -> float | None:
    """None where images have several labels, and none of them shows or is given any."""
    weights = {index: counts.actual[index] if params.average == "weighted" else 1 for index in counts.seen}
    total = sum(weight * (figures[index] or 0.0) for index, weight in weights.items())
    return total / sum(weights.values()) if any(weights.values()) else None


def _unranked(areas: Figures, labels: Labels) -> str:
    """Either all images are of one class, and no class can be ranked, or some classes have none."""
    missing = _without(areas)
    if len(missing) == len(areas):
        return f"all images are of class {labels[0]}"
    return _about(
        missing,
        "has no images, so the average is undefined",
        "have no images, so the average is undefined",
    )


_EVERY: frozenset[Task] = ONE_LABEL | {"multilabel"}

METRICS: tuple[Metric[Any], ...] = (
    Metric(
        name="accuracy",
        summary="Share of images given their class; of several labels, share of right answers",
        params=Params,
        score=accuracy,
        resampled=resampled.accuracy,
        tasks=_EVERY,
    ),
    Metric(
        name="exact_match",
        summary="Share of images of which all labels are right",
        params=Params,
        score=exact_match,
        resampled=resampled.exact_match,
        tasks=frozenset(("multilabel",)),
    ),
    Metric(
        name="balanced_accuracy",
        summary="Mean recall over the classes, blind to how common they are",
        params=Params,
        score=balanced_accuracy,
        resampled=resampled.balanced_accuracy,
        tasks=_EVERY,
    ),
    Metric(
        name="precision",
        summary="Of the images given to a class, the share that belongs to it",
        params=AverageParams,
        score=precision,
        resampled=resampled.precision,
        tasks=_EVERY,
    ),
    Metric(
        name="recall",
        summary="Of the images of a class, the share given to it",
        params=AverageParams,
        score=recall,
        resampled=resampled.recall,
        tasks=_EVERY,
    ),
    Metric(
        name="f1",
        summary="Harmonic mean of precision and recall",
        params=AverageParams,
        score=f1,
        resampled=resampled.f1,
        tasks=_EVERY,
    ),
    Metric(
        name="roc_auc",
        summary="Area under the ROC curve, each class against the rest",
        params=Params,
        score=roc_auc,
        resampled=resampled.roc_auc,
        tasks=_EVERY,
    ),
)


@hookimpl
def histoflow_metrics() -> Iterable[Metric[Any]]:
    return METRICS
