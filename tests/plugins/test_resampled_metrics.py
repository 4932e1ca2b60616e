"""Metrics of many resamples at once, against scikit-learn's of each resample by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from histoflow import Params
from histoflow.testing import check_component
from histoflow_plugins import metrics
from histoflow_plugins._agreement import KappaParams
from histoflow_plugins._counting import AverageParams
from histoflow_plugins._probability import BinParams
from scoring import BY_NAME

EXACT = {"rtol": 0, "atol": 1e-12, "equal_nan": True}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")


WAYS = [
    *((metric, metric.params()) for metric in metrics.METRICS),
    *(
        (metric, AverageParams(average=average))
        for metric in metrics.METRICS
        if metric.params is AverageParams
        for average in ("macro", "weighted")
    ),
    *((BY_NAME["cohen_kappa"], KappaParams(weights=weights)) for weights in ("linear", "quadratic")),
    (BY_NAME["ece"], BinParams(bins=4)),
]
BESIDE_SCIKIT_LEARN = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc")


def told(score):
    figures = (score.value, *(score.per_class or ()))
    return [np.nan if figure is None else figure for figure in figures]


def resample(images, seed=0):
    """All, some not at all and some often, one of them, and such without the first tenth of the images."""
    often = np.random.default_rng(seed).poisson(1, (6, images))
    often[0], often[1] = 1, np.arange(images) == 3
    often[2, : images // 10 + 1] = 0
    often[:, 3] = np.maximum(often[:, 3], 1)
    return often.astype(np.float32)


def made(images, classes, several, steps, seed=0):
    """Sorted by class, so that some resamples lack one; of few steps, so that many scores are tied."""
    chance = np.random.default_rng(seed)
    if several:
        labels = (chance.random((images, classes)) < np.linspace(0.6, 0.05, classes)).astype(np.int64)
        return np.round(chance.random((images, classes)) * steps) / steps, labels
    labels = np.sort(chance.choice(classes, images, p=np.arange(1, classes + 1) / sum(range(classes + 1))))
    counts = chance.multinomial(steps, np.ones(classes) / classes, size=images)
    return counts / steps, labels


@pytest.mark.parametrize("steps", [4, 10**9])
@pytest.mark.parametrize("classes", [2, 4])
def test_one_label_an_image(classes, steps):
    probabilities, labels = made(90, classes, several=False, steps=steps)
    weights = resample(90)
    for metric in (BY_NAME[name] for name in BESIDE_SCIKIT_LEARN):
        figures = metric.resampled(metric.params(), probabilities, labels, weights)
        for row, drawn in zip(figures, weights.astype(int), strict=True):
            images = np.repeat(np.arange(90), drawn)
            expected = reference_of(metric.name, probabilities[images], labels[images])
            assert np.allclose(row, expected, **EXACT), metric.name


def reference_of(name, probabilities, labels):
    classes = range(probabilities.shape[1])
    predictions = probabilities.argmax(axis=1)
    if name == "accuracy":
        each = [reference.accuracy_score(labels == index, predictions == index) for index in classes]
        return [reference.accuracy_score(labels, predictions), *each]
    if name == "roc_auc":
        each = [reference.roc_auc_score(labels == index, probabilities[:, index]) for index in classes]
        return [np.mean(each), *([each[1]] * 2 if len(classes) == 2 else each)]
    function = getattr(reference, f"{'recall' if name == 'balanced_accuracy' else name}_score")
    each = function(labels, predictions, labels=classes, average=None, zero_division=np.nan)
    if name == "balanced_accuracy":
        return [np.nanmean(each), *each]
    if len(classes) == 2:
        return [each[1], *each]
    return [function(labels, predictions, average="macro", zero_division=0), *each]


@pytest.mark.parametrize("steps", [4, 10**9])
def test_several_labels_an_image(steps):
    probabilities, labels = made(60, 3, several=True, steps=steps)
    weights = resample(60)
    areas = BY_NAME["roc_auc"].resampled(Params(), probabilities, labels, weights)
    exact = BY_NAME["exact_match"].resampled(Params(), probabilities, labels, weights)
    for row, right, drawn in zip(areas, exact, weights.astype(int), strict=True):
        images = np.repeat(np.arange(60), drawn)
        pairs = zip(labels[images].T, probabilities[images].T, strict=True)
        each = [reference.roc_auc_score(*pair) for pair in pairs]
        assert np.allclose(row, [np.mean(each), *each], **EXACT)
        expected = reference.accuracy_score(labels[images], probabilities[images] > 0.5)
        assert right == pytest.approx(expected, abs=1e-12)


@st.composite
def splits_and_weights(draw):
    """So few images that classes are missing, everything is of one class, or nothing is shown."""
    images, classes, several = draw(st.integers(1, 8)), draw(st.integers(2, 4)), draw(st.booleans())
    seed, steps = draw(st.integers(0, 10**6)), draw(st.sampled_from((2, 4, 1000)))
    weights = draw(st.lists(st.integers(0, 3), min_size=images, max_size=images).filter(any))
    return *made(images, classes, several, steps, seed), np.array([weights], np.float32)


@settings(max_examples=80, deadline=None)
@given(splits_and_weights())
def test_each_says_what_score_says_of_the_images_so_often_repeated(case):
    probabilities, labels, weights = case
    images = np.repeat(np.arange(len(labels)), weights[0].astype(int))
    task = "multiclass" if labels.ndim == 1 else "multilabel"
    for metric, params in WAYS:
        if task in metric.tasks:
            (row,) = metric.resampled(params, probabilities, labels, weights).reshape(1, -1)
            expected = told(metric.score(params, probabilities[images], labels[images]))
            assert np.allclose(row, expected[: len(row)], **EXACT), (metric.name, params)


def test_sums_beyond_what_float32_counts_are_exact():
    """An image in 2²⁴ + 1 is one that float32 does not see."""
    weights = np.array([[2.0**24, 1.0, 1.0]], np.float32)
    probabilities, labels = np.eye(2)[[0, 1, 1]], np.array([0, 0, 1])
    accuracy = BY_NAME["accuracy"].resampled(Params(), probabilities, labels, weights)[0, 0]
    assert accuracy == (2**24 + 1) / (2**24 + 2)


def test_running_sums_beyond_what_float32_counts_are_exact():
    """One image in 2²⁴ + 2 stands between the two of the class, and is outranked by all but one of them."""
    weights = np.array([[2.0**24, 1.0, 1.0]], np.float32)
    probabilities, labels = np.array([[0.1, 0.9], [0.5, 0.5], [0.6, 0.4]]), np.array([1, 0, 1])
    area = BY_NAME["roc_auc"].resampled(Params(), probabilities, labels, weights)[0, 0]
    assert area == 2**24 / (2**24 + 1)
    found = BY_NAME["average_precision"].resampled(Params(), probabilities, labels, weights)[0, 0]
    assert found == pytest.approx((2**24 + (2**24 + 1) / (2**24 + 2)) / (2**24 + 1), rel=1e-15)


@pytest.mark.parametrize(("metric", "params"), WAYS)
def test_all_keep_the_contract(metric, params):
    check_component(metric, params)
