"""Figures of merit of a split: of its predictions, its ranking and its probabilities.

They are defined as in scikit-learn, which the tests compare them with, but computed from counts and
sorted scores in plain numpy: validation asks for all of them after every epoch, and intervals for 2,000
resamples of each.

The prediction is the class of the highest probability, the first of them in a tie; where images
have several labels (images × classes of 0 and 1), every class with a probability above 0.5. A figure
that the split cannot tell (the recall of a class without images) is None, and ``Score.undefined`` says
why and what that means for the average. Classes are numbered from 0, as in the labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from histoflow import ONE_LABEL, Metric, Params, Task, hookimpl
from histoflow_plugins import _agreement as agreement
from histoflow_plugins import _decisions as decisions
from histoflow_plugins import _probability as probability
from histoflow_plugins import _ranking as ranking
from histoflow_plugins import _resampled as resampled
from histoflow_plugins._counting import AverageParams

_EVERY: frozenset[Task] = ONE_LABEL | {"multilabel"}

METRICS: tuple[Metric[Any], ...] = (
    Metric(
        name="accuracy",
        summary="Share of images given their class; of several labels, share of right answers",
        params=Params,
        score=decisions.accuracy,
        resampled=resampled.accuracy,
        tasks=_EVERY,
    ),
    Metric(
        name="exact_match",
        summary="Share of images of which all labels are right",
        params=Params,
        score=decisions.exact_match,
        resampled=resampled.exact_match,
        tasks=frozenset(("multilabel",)),
    ),
    Metric(
        name="balanced_accuracy",
        summary="Mean recall over the classes, blind to how common they are",
        params=Params,
        score=decisions.balanced_accuracy,
        resampled=resampled.balanced_accuracy,
        tasks=_EVERY,
    ),
    Metric(
        name="precision",
        summary="Of the images given to a class, the share that belongs to it",
        params=AverageParams,
        score=decisions.precision,
        resampled=resampled.precision,
        tasks=_EVERY,
    ),
    Metric(
        name="recall",
        summary="Of the images of a class, the share given to it",
        params=AverageParams,
        score=decisions.recall,
        resampled=resampled.recall,
        tasks=_EVERY,
    ),
    Metric(
        name="specificity",
        summary="Of the images outside a class, the share not given to it",
        params=AverageParams,
        score=decisions.specificity,
        resampled=resampled.specificity,
        tasks=_EVERY,
    ),
    Metric(
        name="f1",
        summary="Harmonic mean of precision and recall",
        params=AverageParams,
        score=decisions.f1,
        resampled=resampled.f1,
        tasks=_EVERY,
    ),
    Metric(
        name="roc_auc",
        summary="Area under the ROC curve, each class against the rest",
        params=Params,
        score=ranking.roc_auc,
        resampled=ranking.roc_auc_resampled,
        tasks=_EVERY,
    ),
    Metric(
        name="average_precision",
        summary="Area under the precision-recall curve, each class against the rest",
        params=Params,
        score=ranking.average_precision,
        resampled=ranking.average_precision_resampled,
        tasks=_EVERY,
    ),
    Metric(
        name="mcc",
        summary="Matthews' correlation of predictions and labels",
        params=Params,
        score=agreement.mcc,
        resampled=agreement.mcc_resampled,
        tasks=_EVERY,
    ),
    Metric(
        name="cohen_kappa",
        summary="Agreement of predictions and labels beyond chance; weighted where classes are grades",
        params=agreement.KappaParams,
        score=agreement.cohen_kappa,
        resampled=agreement.cohen_kappa_resampled,
        tasks=ONE_LABEL,
    ),
    Metric(
        name="brier",
        summary="Squared error of the probabilities",
        params=Params,
        score=probability.brier,
        resampled=probability.brier_resampled,
        tasks=_EVERY,
        higher_is_better=False,
    ),
    Metric(
        name="log_loss",
        summary="Minus the logarithm of the probability given to what is true",
        params=Params,
        score=probability.log_loss,
        resampled=probability.log_loss_resampled,
        tasks=_EVERY,
        higher_is_better=False,
    ),
    Metric(
        name="ece",
        summary="How far probabilities are from the share that is right (expected calibration error)",
        params=probability.BinParams,
        score=probability.ece,
        resampled=probability.ece_resampled,
        tasks=_EVERY,
        higher_is_better=False,
    ),
)


@hookimpl
def histoflow_metrics() -> Iterable[Metric[Any]]:
    return METRICS
