"""Score a whole split with every metric, and keep the scores as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow.components import Interval, Metric, Params, Score
from histoflow.errors import DataError, PluginError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Metrics = Mapping[str, tuple[Metric[Any], Params]]

_SUM_TOLERANCE = 1e-3
"""Rows from a softmax in float32 are within 1e-6 of one; what is further off was never normalised."""


def score_all(metrics: Metrics, probabilities: ArrayLike, labels: ArrayLike) -> dict[str, Score]:
    """Every metric's score of one split.

    Probabilities are images × classes; labels are one number per image or, where an image may show several
    classes, images × classes of 0 and 1.
    """
    given, truth = checked_split(probabilities, labels)
    return {name: _score(name, *chosen, given, truth) for name, chosen in metrics.items()}


def checked_split(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Both as metrics take them, or a DataError that says what is wrong, and at which image."""
    given, truth = np.asarray(probabilities), np.asarray(labels)
    _check_shapes(given, truth)
    given = given.astype(np.float64, copy=False)
    _check_probabilities(given, sum_to_one=truth.ndim == 1)
    _check_labels(truth, given.shape[1])
    return given, truth.astype(np.int64, copy=False)


def _check_shapes(probabilities: NDArray[Any], labels: NDArray[Any]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise DataError(
            f"Probabilities must be images × classes, with two classes at least. "
            f"Got shape {probabilities.shape}."
        )
    if labels.shape not in ((len(probabilities),), probabilities.shape):
        raise DataError(
            f"There must be one label, or one 0 or 1 for each class, for each of the {len(probabilities)} "
            f"rows of probabilities. Got labels of shape {labels.shape}."
        )
    if not len(labels):
        raise DataError("The split holds no images, so there is nothing to score.")


def _check_probabilities(probabilities: NDArray[np.float64], *, sum_to_one: bool) -> None:
    _refuse(np.any(~np.isfinite(probabilities), axis=1), probabilities, "must be finite numbers")
    outside = np.any((probabilities < -_SUM_TOLERANCE) | (probabilities > 1 + _SUM_TOLERANCE), axis=1)
    _refuse(outside, probabilities, "must lie between 0 and 1")
    if sum_to_one:
        off = np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE
        _refuse(off, probabilities, "must sum to 1")


def _refuse(bad: NDArray[np.bool_], probabilities: NDArray[np.float64], rule: str) -> None:
    if bad.any():
        first = int(bad.argmax())
        row = ", ".join(f"{value:.4g}" for value in probabilities[first])
        raise DataError(
            f"The probabilities of an image {rule}. Those of {bad.sum()} of {len(bad)} images do not; "
            f"the first is image {first}: {row}."
        )


def _check_labels(labels: NDArray[Any], classes: int) -> None:
    if labels.dtype.kind not in "iu":
        raise DataError(f"Labels must be whole numbers. Got an array of {labels.dtype}.")
    if labels.ndim == 2:
        _check_several(labels)
        return
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"Labels must lie in 0..{classes - 1}, as there are {classes} classes. "
            f"Those of {bad.sum()} of {len(bad)} images do not; the first is image {first}: {labels[first]}."
        )


def _check_several(labels: NDArray[Any]) -> None:
    bad = ((labels != 0) & (labels != 1)).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"Labels must be 0 or 1 for each class. Those of {bad.sum()} of {len(bad)} images are not; "
            f"the first is image {first}: {labels[first].tolist()}."
        )


def _score(
    name: str,
    metric: Metric[Any],
    params: Params,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> Score:
    score = metric.score(params, probabilities, labels)
    if not isinstance(score, Score):
        raise PluginError(f"Metric {name!r} must return a histoflow.Score. Got {score!r}.")
    figures = (score.value, *(score.per_class or ()))
    if not all(figure is None or isfinite(figure) for figure in figures):
        raise PluginError(f"Metric {name!r} must return finite figures, or None and why. Got {score!r}.")
    if None in figures and not score.undefined:
        raise PluginError(f"Metric {name!r} must say in 'undefined' why a figure is None. Got {score!r}.")
    if score.per_class is not None and len(score.per_class) != probabilities.shape[1]:
        raise PluginError(
            f"Metric {name!r} must return one figure for each of {probabilities.shape[1]} classes, "
            f"or per_class=None. Got {len(score.per_class)}."
        )
    return score


def to_json(scores: Mapping[str, Score], classes: Sequence[str]) -> dict[str, Any]:
    """Plain data for metrics.json; per-class figures stand in the order of ``classes``."""
    return {
        "schema": 1,
        "classes": list(classes),
        "scores": {name: _plain(score) for name, score in scores.items()},
    }


def from_json(data: Mapping[str, Any]) -> dict[str, Score]:
    """The scores that ``to_json`` wrote, perhaps before there were intervals."""
    try:
        return {name: _record(plain) for name, plain in data["scores"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"These are not the scores of a run as histoflow writes them ({error!r}). Evaluate the run again."
        ) from error


def _plain(score: Score) -> dict[str, Any]:
    per_class = None if score.per_class is None else [_number(figure) for figure in score.per_class]
    intervals = score.per_class_intervals
    return {
        "value": _number(score.value),
        "per_class": per_class,
        "undefined": score.undefined,
        "interval": _ends(score.interval),
        "per_class_intervals": None if intervals is None else [_ends(interval) for interval in intervals],
        "interval_note": score.interval_note,
    }


def _record(plain: Mapping[str, Any]) -> Score:
    per_class = plain["per_class"]
    return Score(
        value=_number(plain["value"]),
        per_class=None if per_class is None else tuple(_number(figure) for figure in per_class),
        undefined=str(plain["undefined"]),
        interval=_interval(plain.get("interval")),
        per_class_intervals=_intervals(plain.get("per_class_intervals")),
        interval_note=str(plain.get("interval_note", "")),
    )


def _intervals(plain: Sequence[Sequence[float] | None] | None) -> tuple[Interval | None, ...] | None:
    return None if plain is None else tuple(_interval(ends) for ends in plain)


def _interval(ends: Sequence[float] | None) -> Interval | None:
    if ends is None:
        return None
    low, high = ends
    return float(low), float(high)


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [float(end) for end in interval]


def _number(figure: float | None) -> float | None:
    """A plugin may have left a numpy number, which JSON does not know."""
    return None if figure is None else float(figure)
