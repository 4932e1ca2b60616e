"""Splits are checked before they are scored, and so is what a metric answers."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from histoflow import DataError, Metric, Params, PluginError, Score
from histoflow.evaluation import (
    class_counts,
    confusion_matrix,
    from_json,
    precision_recall_curve,
    precision_recall_curves,
    roc_curve,
    roc_curves,
    score_all,
    to_json,
)

"""A busy machine is no failure."""

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
LABELS = np.array([0, 1, 1])


def metric_returning(answer, name="probe"):
    return {name: (Metric(name=name, summary="", params=Params, score=lambda *_: answer), Params())}


def test_each_metric_scores_under_its_name_with_its_own_parameters():
    class ShiftParams(Params):
        by: float = 0.0

    def score(params, probabilities, labels):
        return Score(value=float(probabilities[0, 0] + labels.sum()) + params.by)

    shift = Metric(name="shift", summary="", params=ShiftParams, score=score)
    metrics = {"shift": (shift, ShiftParams()), "far": (shift, ShiftParams(by=10))}
    scores = score_all(metrics, PROBABILITIES, LABELS)
    assert {name: found.value for name, found in scores.items()} == pytest.approx({"shift": 2.7, "far": 12.7})


def test_metrics_are_handed_float64_and_int64():
    def score(params, probabilities, labels):
        assert (probabilities.dtype, labels.dtype) == (np.float64, np.int64)
        return Score(value=1.0)

    metric = Metric(name="types", summary="", params=Params, score=score)
    score_all({"types": (metric, Params())}, PROBABILITIES.astype(np.float32), LABELS.astype(np.uint8))


def changed(row, values):
    probabilities = PROBABILITIES.copy()
    probabilities[row] = values
    return probabilities


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (changed(1, [np.nan, 0.5, 0.5]), LABELS, "must be finite numbers.*1 of 3.*image 1: nan, 0.5, 0.5"),
        (changed(0, [np.inf, 0, 0]), LABELS, "must be finite numbers.*image 0"),
        (changed(2, [0.5, 0.6, 0.1]), LABELS, "must sum to 1.*image 2: 0.5, 0.6, 0.1"),
        (changed(2, [1.5, -0.5, 0.0]), LABELS, "between 0 and 1.*image 2"),
        (PROBABILITIES[:, 0], LABELS, r"images × classes.*\(3,\)"),
        (PROBABILITIES[:, :1], LABELS, r"two classes.*\(3, 1\)"),
        (PROBABILITIES, LABELS[:2], r"3 rows of probabilities.*\(2,\)"),
        (PROBABILITIES, LABELS[:, None], r"3 rows of probabilities.*\(3, 1\)"),
        (PROBABILITIES[:0], LABELS[:0], "no images"),
        (PROBABILITIES, np.array([0, 3, 1]), r"0\.\.2.*1 of 3.*image 1: 3"),
        (PROBABILITIES, np.array([0, 1, -1]), r"0\.\.2.*image 2: -1"),
        (PROBABILITIES, LABELS.astype(float), "whole numbers.*float64"),
    ],
)
def test_a_split_that_cannot_be_scored_is_refused_and_the_place_named(probabilities, labels, message):
    with pytest.raises(DataError, match=message):
        score_all(metric_returning(Score(value=1.0)), probabilities, labels)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (0.5, "'probe' must return a histoflow.Score. Got 0.5"),
        (Score(value=float("nan")), "finite figures"),
        (Score(value=1.0, per_class=(1.0, float("inf"), 1.0)), "finite figures"),
        (Score(value=None), "must say in 'undefined'"),
        (Score(value=1.0, per_class=(1.0, None, 1.0)), "must say in 'undefined'"),
        (Score(value=1.0, per_class=(1.0, 1.0)), "each of 3 classes.*Got 2"),
    ],
)
def test_a_metric_that_breaks_the_contract_is_named(answer, message):
    with pytest.raises(PluginError, match=message):
        score_all(metric_returning(answer), PROBABILITIES, LABELS)


FIGURES = st.none() | st.floats(allow_nan=False, allow_infinity=False)
INTERVALS = st.none() | st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)
SCORES = st.builds(
    Score,
    value=FIGURES,
    per_class=st.none() | st.tuples(FIGURES, FIGURES),
    undefined=st.text(),
    interval=INTERVALS,
    per_class_intervals=st.none() | st.tuples(INTERVALS, INTERVALS),
    interval_note=st.text(),
)


@given(st.dictionaries(st.text(), SCORES))
def test_scores_survive_json_unchanged(scores):
    plain = json.loads(json.dumps(to_json(scores, ["a", "b"]), allow_nan=False))
    assert from_json(plain) == scores


def test_numbers_of_numpy_become_plain():
    scores = {
        "own": Score(
            value=np.float32(0.5),
            per_class=(np.float64(0.25), None),
            undefined="why",
            interval=(np.float64(0.25), np.float64(0.75)),
            per_class_intervals=((np.float64(0), np.float64(0.5)), None),
            interval_note="few",
        )
    }
    assert json.loads(json.dumps(to_json(scores, ["a", "b"]))) == {
        "schema": 1,
        "classes": ["a", "b"],
        "scores": {
            "own": {
                "value": 0.5,
                "per_class": [0.25, None],
                "undefined": "why",
                "interval": [0.25, 0.75],
                "per_class_intervals": [[0.0, 0.5], None],
                "interval_note": "few",
            }
        },
    }


def test_scores_that_were_kept_before_there_were_intervals_are_read():
    kept = {"scores": {"own": {"value": 0.5, "per_class": [0.25, None], "undefined": "why"}}}
    assert from_json(kept) == {"own": Score(value=0.5, per_class=(0.25, None), undefined="why")}


HALF = {"scores": {"f1": {"value": 0.5, "per_class": None, "undefined": "", "interval": [0.4]}}}


@pytest.mark.parametrize("data", [{}, [], {"scores": {"f1": {}}}, {"scores": {"f1": 3}}, {"scores": 1}, HALF])
def test_something_else_than_scores_is_refused(data):
    with pytest.raises(DataError, match="not the scores of a run"):
        from_json(data)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_confusion_matrix_has_labels_in_rows(pairs):
    labels, predictions = np.array(pairs, np.int64).reshape(-1, 2).T
    found = confusion_matrix(labels, predictions, 4)
    expected = np.zeros((4, 4), np.int64)
    for label, prediction in pairs:
        expected[label, prediction] += 1
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_curve_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(60) < 0.3, rng.integers(0, 9, 60) / 7
    curve = precision_recall_curve(positive, scores)
    precision, recall, _ = reference.precision_recall_curve(positive, scores)
    assert np.array_equal(curve.precision[::-1], precision[:-1])
    assert np.array_equal(curve.recall[::-1], recall[:-1])
    assert curve.area == pytest.approx(reference.average_precision_score(positive, scores), abs=1e-12)
    assert curve.share == positive.mean()


def test_a_class_without_images_has_no_precision_recall_curve():
    curves = precision_recall_curves(np.array([0, 1, 0]), np.full((3, 3), 1 / 3))
    assert [curve is None for curve in curves] == [False, False, True]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_roc_curve_is_that_of_scikit_learn(images):
    positive, scores = (np.array(column) for column in zip(*images, strict=True))
    curve = roc_curve(positive, scores / 7)
    if positive.all() or not positive.any():
        assert curve is None
        return
    x, y, _ = reference.roc_curve(positive, scores / 7, drop_intermediate=False)
    assert curve.area == pytest.approx(reference.roc_auc_score(positive, scores / 7), abs=1e-12)
    corners = set(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
    assert {(0.0, 0.0), (1.0, 1.0)} <= corners <= set(zip(x, y, strict=True))


def test_of_several_labels_each_column_has_its_curve_and_count():
    labels, scores = np.array([[1, 0], [1, 1], [0, 0]]), np.array([[0.9, 0.2], [0.8, 0.3], [0.1, 0.9]])
    curves = roc_curves(labels, scores)
    assert [curve.area for curve in curves] == [1.0, 0.5]
    assert class_counts(labels, 2) == [2, 1]


def test_several_labels_are_handed_on_and_their_probabilities_need_not_sum_to_one():
    def score(params, probabilities, labels):
        assert labels.dtype == np.int64
        return Score(value=float((labels * probabilities).sum()))

    probe = {"probe": (Metric(name="probe", summary="", params=Params, score=score), Params())}
    labels = np.array([[1, 1], [0, 0]], np.uint8)
    assert score_all(probe, [[0.9, 0.8], [0.1, 0.1]], labels)["probe"].value == pytest.approx(1.7)
    with pytest.raises(DataError, match=r"must be 0 or 1 for each class.*image 1: \[0, 2\]"):
        score_all(probe, [[0.9, 0.8], [0.1, 0.1]], [[1, 1], [0, 2]])


def test_a_class_without_images_has_no_curve():
    curves = roc_curves(LABELS, PROBABILITIES)
    assert [curve is None for curve in curves] == [False, False, True]
    assert curves[0].area == 1.0


def test_evaluation_does_without_torch_and_matplotlib():
    code = (
        "import sys, histoflow.evaluation; "
        "print([name for name in ('torch', 'sklearn', 'matplotlib', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
