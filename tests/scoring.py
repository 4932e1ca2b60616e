"""Splits of few images, which metrics and scikit-learn are told alike; and a run's figures, told once more."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import strategies as st

from histoflow import Metric, seeds, stages
from histoflow.evaluation import predictions
from histoflow.evaluation.intervals import with_intervals
from histoflow.evaluation.scores import score_all, to_json
from histoflow.registry import installed
from histoflow_plugins.metrics import METRICS

BY_NAME = {metric.name: metric for metric in METRICS}
CLOSE = partial(pytest.approx, rel=1e-12, abs=1e-12)


@st.composite
def splits(draw, least=2, most=5):
    """Probabilities in coarse steps, so that ties, absent classes and unused classes are common."""
    count, width = draw(st.integers(1, 40)), draw(st.integers(least, most))
    labels = draw(st.lists(st.integers(0, width - 1), min_size=count, max_size=count))
    weights = draw(st.lists(st.integers(1, 4), min_size=count * width, max_size=count * width))
    raw = np.array(weights, np.float64).reshape(count, width)
    return raw / raw.sum(axis=1, keepdims=True), np.array(labels, np.int64)


@st.composite
def labelled(draw):
    """Few images and coarse probabilities, so that classes shown by all images or none are common."""
    count, width = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    cells = count * width
    labels = draw(st.lists(st.integers(0, 1), min_size=cells, max_size=cells))
    quarters = draw(st.lists(st.integers(0, 4), min_size=cells, max_size=cells))
    shape = (count, width)
    return np.array(quarters, np.float64).reshape(shape) / 4, np.array(labels, np.int64).reshape(shape)


def score(name, probabilities, labels, **params):
    metric = BY_NAME[name]
    return metric.score(metric.params(**params), np.asarray(probabilities, np.float64), np.asarray(labels))


def one_hot(predictions, classes):
    return np.eye(classes)[predictions]


def by_class(function, probabilities, labels):
    return [function(labels[:, index], probabilities[:, index]) for index in range(labels.shape[1])]


def same_figures(found, expected):
    assert [figure is None for figure in found] == [bool(np.isnan(figure)) for figure in expected]
    assert [f for f in found if f is not None] == CLOSE([f for f in expected if not np.isnan(f)])


def metrics_of(asked):
    return {choice.name: (installed().get(Metric, choice.name), choice) for choice in asked.metrics}


def main_figures_of(run):
    """The scores of metrics.json and how their intervals came about, from the predictions that the run keeps."""
    asked, kept = stages.experiment_of(run), predictions.load(run.folder)
    metrics, split = metrics_of(asked), (kept.probabilities, kept.labels)
    seed = seeds.derive(asked.seed, seeds.Stream.RESAMPLES)
    scores, how = with_intervals(metrics, score_all(metrics, *split), *split, kept.groups, seed=seed)
    found = {"scores": to_json(scores, ())["scores"], "intervals": how}
    return json.loads(json.dumps(found, allow_nan=False))
