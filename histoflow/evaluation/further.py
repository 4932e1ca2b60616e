"""What is told of a model beside its scores: calibration, operating point, prediction sets, groups.

All of it follows from the stored predictions, from fitted.json and from the experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from histoflow import seeds
from histoflow.components import Metric, Score
from histoflow.evaluation import always, by_group
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.intervals import with_intervals
from histoflow.evaluation.operating import rates_at_thresholds
from histoflow.evaluation.prediction_sets import rates_of_sets
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.rates import as_metrics
from histoflow.evaluation.reliability import reliability
from histoflow.evaluation.scores import Metrics, checked_split, score_all, to_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from histoflow.experiment import Experiment
    from histoflow.registry import Registry


def look(
    experiment: Experiment,
    metrics: Metrics,
    kept: Predictions,
    validation: Predictions,
    fitted: Fitted,
    registry: Registry,
) -> dict[str, Any]:
    """Sections of metrics.json, and the notes of what could not be fitted."""
    probabilities, labels = checked_split(kept.probabilities, kept.labels)
    seed = seeds.derive(experiment.seed, seeds.Stream.RESAMPLES)
    asked = _asked(fitted, probabilities, labels, registry)
    every = {f"{part}/{name}": metric for part, several in asked.items() for name, metric in several.items()}
    scores = score_all(every, probabilities, labels)
    scores, told = with_intervals(every, scores, probabilities, labels, kept.groups, seed=seed)
    found = {
        part: _plain({name: scores[f"{part}/{name}"] for name in several}) for part, several in asked.items()
    }
    return {
        "calibration": _calibration(fitted, probabilities, labels, found) | {"intervals": told},
        "operating": _operating(fitted, validation, found.get("operating"), told),
        "sets": _sets(fitted, found.get("sets"), told),
        "aggregated": by_group.look(experiment.evaluation, metrics, kept, fitted, seed),
        "notes": list(fitted.notes),
    }


def _asked(
    fitted: Fitted, probabilities: NDArray[np.float64], labels: NDArray[np.int64], registry: Registry
) -> dict[str, Metrics]:
    """All figures that are drawn together."""
    calibrated = fitted.calibrated(probabilities)
    asked = {"before": always.chosen(always.OF_PROBABILITIES, registry)}
    if fitted.temperature != 1:
        asked["after"] = {
            name: (_of(calibrated, one), params) for name, (one, params) in asked["before"].items()
        }
    if fitted.task != "multiclass":
        asked["operating"] = as_metrics(rates_at_thresholds(fitted.told(calibrated), labels))
    if (sets := fitted.sets(calibrated)) is not None:
        asked["sets"] = as_metrics(rates_of_sets(sets, labels))
    return asked


def _of(calibrated: NDArray[np.float64], metric: Metric[Any]) -> Metric[Any]:
    """The same metric of these probabilities, whatever it is handed: so both are drawn together."""
    resampled = metric.resampled
    assert resampled is not None
    return replace(
        metric,
        score=lambda params, _, labels: metric.score(params, calibrated, labels),
        resampled=lambda params, _, labels, weights: resampled(params, calibrated, labels, weights),
    )


def _calibration(
    fitted: Fitted,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """``after`` is None where no temperature was asked for, or none is better than 1."""
    bins = {"before": reliability(probabilities, labels), "after": None}
    if "after" in found:
        bins["after"] = reliability(fitted.calibrated(probabilities), labels)
    return {
        "temperature": fitted.temperature,
        "images": fitted.images,
        "before": found["before"],
        "after": found.get("after"),
        "bins": bins,
    }


def _operating(
    fitted: Fitted, validation: Predictions, scores: dict[str, Any] | None, told: dict[str, Any]
) -> dict[str, Any] | None:
    """None where there are more than two classes, of which the likeliest is told."""
    if scores is None:
        return None
    given, labels = checked_split(validation.probabilities, validation.labels)
    rates = rates_at_thresholds(fitted.told(fitted.calibrated(given)), labels)
    return {
        "rule": fitted.rule,
        "thresholds": None if fitted.thresholds is None else list(fitted.thresholds),
        "scores": scores,
        "validation": _plain({name: rate.score() for name, rate in rates.items()}),
        "intervals": told,
    }


def _sets(fitted: Fitted, scores: dict[str, Any] | None, told: dict[str, Any]) -> dict[str, Any] | None:
    if scores is None or fitted.levels is None:
        return None
    return {
        "coverage": fitted.coverage,
        "levels": list(fitted.levels),
        "scores": scores,
        "intervals": told,
    }


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    plain: dict[str, Any] = to_json(scores, ())["scores"]
    return plain
