"""Metrics: pure functions of probabilities and labels, with an answer for every split."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import DataInfo, Metric, Score
from histoflow.testing._common import (
    calling,
    complaints,
    example_data,
    example_labels,
    expect,
    leaving_global_chance_alone,
)

IMAGES = 60


def check(metric: Metric[Any], params: Any) -> None:
    refused = []
    for task in sorted(metric.tasks):
        data = example_data(task)
        found = complaints(metric, params, data)
        refused.extend(found)
        if not found:
            _check_on(metric, params, data)
    expect(len(refused) < len(metric.tasks), metric, f"its check refuses every example: {refused}.")


def _check_on(metric: Metric[Any], params: Any, data: DataInfo) -> None:
    classes = len(data.classes)
    chance = np.random.default_rng(0)
    labels = example_labels(data.task, classes, IMAGES)
    probabilities = (
        chance.dirichlet(np.ones(classes), IMAGES) if labels.ndim == 1 else chance.random((IMAGES, classes))
    )
    score = _score(metric, params, probabilities, labels)
    expect(score.value is not None, metric, f"has no value for {IMAGES} images of all classes.")
    _check_order(metric, params, probabilities, labels, score)
    _check_direction(metric, params, labels, score, classes)
    kept = labels != 0 if labels.ndim == 1 else labels[:, 0] == 0
    _score(metric, params, probabilities[kept], labels[kept])  # a class without images
    _score(metric, params, probabilities[:1], labels[:1])
    _check_resampled(metric, params, probabilities, labels)


def _score(
    metric: Metric[Any], params: Any, probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> Score:
    """Score these, and check what holds of every score."""
    given = probabilities.copy(), labels.copy()
    present = len(np.unique(labels)) if labels.ndim == 1 else np.count_nonzero(labels.any(axis=0))
    what = f"scoring {len(labels)} images of {present} of {probabilities.shape[1]} classes"
    with leaving_global_chance_alone(metric), calling(metric, what):
        score = metric.score(params, *given)
    expect(
        np.array_equal(given[0], probabilities) and np.array_equal(given[1], labels),
        metric,
        "changes the arrays that it is given. Work on copies.",
    )
    expect(isinstance(score, Score), metric, f"must return a Score. Got {score!r}.")
    _check_figures(metric, score, probabilities.shape[1])
    return score


def _check_figures(metric: Metric[Any], score: Score, classes: int) -> None:
    per_class = score.per_class
    expect(
        per_class is None or len(per_class) == classes,
        metric,
        f"per_class must have a figure for each of {classes} classes. Got {per_class}.",
    )
    figures = (score.value, *(per_class or ()))
    wrong = [f for f in figures if f is not None and not (isinstance(f, float | int) and math.isfinite(f))]
    expect(not wrong, metric, f"figures must be finite numbers, or None where undefined. Got {wrong}.")
    expect(
        score.value is not None or bool(score.undefined),
        metric,
        "a Score without value must say why in 'undefined'.",
    )


def _check_order(
    metric: Metric[Any],
    params: Any,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    score: Score,
) -> None:
    order = np.random.default_rng(1).permutation(IMAGES)
    shuffled = _score(metric, params, probabilities[order], labels[order])
    assert score.value is not None
    assert shuffled.value is not None
    expect(
        math.isclose(score.value, shuffled.value, rel_tol=1e-9, abs_tol=1e-9),
        metric,
        f"depends on the order of the images: {score.value} and {shuffled.value}.",
    )


def _check_direction(
    metric: Metric[Any], params: Any, labels: NDArray[np.int64], score: Score, classes: int
) -> None:
    truth = np.eye(classes)[labels] if labels.ndim == 1 else labels.astype(np.float64)
    perfect = _score(metric, params, truth, labels).value
    assert perfect is not None
    assert score.value is not None
    better = perfect >= score.value if metric.higher_is_better else perfect <= score.value
    expect(
        better,
        metric,
        f"says higher_is_better={metric.higher_is_better}, and gives {perfect:g} where all is right, "
        f"{score.value:g} where all is guessed.",
    )


def _check_resampled(
    metric: Metric[Any], params: Any, probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    """Resamples of all images once, of none of class 0, of one image, and of some images several times."""
    if metric.resampled is None:
        return
    of_first = labels == 0 if labels.ndim == 1 else labels[:, 0] == 1
    often = np.random.default_rng(2).integers(0, 4, IMAGES)
    weights = np.stack([np.ones(IMAGES), ~of_first, np.arange(IMAGES) == 0, often]).astype(np.float32)
    figures = _figures_of(metric, params, (probabilities, labels, weights))
    for row, drawn in zip(figures, weights.astype(np.int64), strict=True):
        images = np.repeat(np.arange(IMAGES), drawn)
        score = _score(metric, params, probabilities[images], labels[images])
        _check_same(metric, row, score, f"{drawn.sum()} images drawn from {IMAGES}")


def _figures_of(metric: Metric[Any], params: Any, arrays: tuple[NDArray[Any], ...]) -> NDArray[np.float64]:
    assert metric.resampled is not None
    given, (probabilities, _, weights) = tuple(array.copy() for array in arrays), arrays
    with leaving_global_chance_alone(metric), calling(metric, "resampled"):
        figures = np.asarray(metric.resampled(params, *given), np.float64)
    unchanged = all(np.array_equal(one, other) for one, other in zip(given, arrays, strict=True))
    expect(unchanged, metric, "resampled changes the arrays that it is given. Work on copies.")
    rows, classes = len(weights), probabilities.shape[1]
    expect(
        figures.shape in ((rows,), (rows, 1 + classes)),
        metric,
        f"resampled must return {rows} figures for {rows} resamples, or {rows} × {1 + classes} with those of "
        f"the classes. Got shape {figures.shape}.",
    )
    return figures.reshape(rows, -1)


def _check_same(metric: Metric[Any], row: NDArray[np.float64], score: Score, what: str) -> None:
    told = (score.value, *(score.per_class or ()))[: len(row)]
    expect(len(told) == len(row), metric, "resampled gives figures of classes, which its score does not.")
    expected = [np.nan if figure is None else figure for figure in told]
    expect(
        np.allclose(row, expected, rtol=1e-6, atol=1e-6, equal_nan=True),  # float32 will do
        metric,
        f"resampled must say what score says, and NaN where that is None. "
        f"Of {what} they say {row.tolist()} and {expected}.",
    )
