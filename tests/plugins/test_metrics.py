"""The built-in metrics agree with scikit-learn wherever it has an answer, and say why where it has none."""

import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as reference

from histoflow import Params, Score
from histoflow.testing import check_component
from histoflow_plugins import metrics
from histoflow_plugins._counting import AverageParams
from scoring import BY_NAME, CLOSE, by_class, labelled, one_hot, same_figures, splits

OF_ONE_LABEL = [metric for metric in metrics.METRICS if "multiclass" in metric.tasks]
OF_SEVERAL = [metric for metric in metrics.METRICS if "multilabel" in metric.tasks]
MACRO, WEIGHTED = AverageParams(average="macro"), AverageParams(average="weighted")


def per_class_reference(name, predictions, labels, classes):
    function = getattr(reference, f"{name}_score")
    return function(labels, predictions, labels=range(classes), average=None, zero_division=np.nan)


@settings(max_examples=40)
@given(splits())
def test_accuracy_and_its_one_against_rest_form(split):
    probabilities, labels = split
    predictions = probabilities.argmax(axis=1)
    score = BY_NAME["accuracy"].score(Params(), probabilities, labels)
    assert score.value == CLOSE(reference.accuracy_score(labels, predictions))
    expected = [
        reference.accuracy_score(labels == index, predictions == index)
        for index in range(probabilities.shape[1])
    ]
    assert score.per_class == CLOSE(tuple(expected))


@settings(max_examples=40)
@given(splits())
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_balanced_accuracy(split):
    probabilities, labels = split
    predictions = probabilities.argmax(axis=1)
    score = BY_NAME["balanced_accuracy"].score(Params(), probabilities, labels)
    assert score.value == CLOSE(reference.balanced_accuracy_score(labels, predictions))
    same_figures(score.per_class, per_class_reference("recall", predictions, labels, probabilities.shape[1]))


@pytest.mark.parametrize("params", [MACRO, WEIGHTED])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@settings(max_examples=40)
@given(split=splits())
def test_averages_over_classes(name, params, split):
    """Undefined figures of classes that occur count as 0, as scikit-learn does with a warning."""
    probabilities, labels = split
    predictions = probabilities.argmax(axis=1)
    score = BY_NAME[name].score(params, probabilities, labels)
    function = getattr(reference, f"{name}_score")
    assert score.value == CLOSE(function(labels, predictions, average=params.average, zero_division=0))
    same_figures(score.per_class, per_class_reference(name, predictions, labels, probabilities.shape[1]))
    assert (None in score.per_class) == bool(score.undefined)


@pytest.mark.parametrize("params", [MACRO, WEIGHTED])
@settings(max_examples=40)
@given(split=splits())
def test_specificity_is_the_recall_of_the_rest(params, split):
    """Of classes that occur, and that other images than theirs can tell anything of."""
    probabilities, labels = split
    predictions, classes = probabilities.argmax(axis=1), range(probabilities.shape[1])
    each = [
        reference.recall_score(labels != index, predictions != index, zero_division=np.nan)
        for index in classes
    ]
    score = BY_NAME["specificity"].score(params, probabilities, labels)
    same_figures(score.per_class, each)
    seen = [index for index in {*labels, *predictions} if not np.isnan(each[index])]
    shares = [np.sum(labels == index) if params is WEIGHTED else 1 for index in seen]
    expected = np.average([each[index] for index in seen], weights=shares) if any(shares) else np.nan
    same_figures([score.value], [expected])
    assert (None in (score.value, *score.per_class)) == bool(score.undefined)


@settings(max_examples=40)
@given(splits(most=2))
def test_specificity_of_two_classes_is_the_recall_of_the_negative_one(split):
    score, recall = (BY_NAME[name].score(AverageParams(), *split) for name in ("specificity", "recall"))
    assert (score.value, score.per_class) == (recall.per_class[0], recall.per_class[::-1])
    assert (None in score.per_class) == bool(score.undefined)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@settings(max_examples=40)
@given(split=splits(most=2))
def test_two_classes_are_told_by_the_positive_one(name, split):
    probabilities, labels = split
    score = BY_NAME[name].score(AverageParams(), probabilities, labels)
    function = getattr(reference, f"{name}_score")
    expected = function(labels, probabilities.argmax(axis=1), zero_division=np.nan)
    same_figures([score.value], [expected])
    assert score.value == score.per_class[1]


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@settings(max_examples=40)
@given(split=splits(least=3))
def test_auto_is_macro_with_more_than_two_classes(name, split):
    function = BY_NAME[name].score
    assert function(AverageParams(), *split) == function(MACRO, *split)


@settings(max_examples=40)
@given(splits(most=2))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_roc_auc_of_two_classes(split):
    probabilities, labels = split
    score = BY_NAME["roc_auc"].score(Params(), probabilities, labels)
    same_figures([score.value], [reference.roc_auc_score(labels, probabilities[:, 1])])
    assert score.per_class == (score.value, score.value)
    assert (score.value is None) == bool(score.undefined)


@settings(max_examples=40)
@given(splits(least=3))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_roc_auc_of_many_classes(split):
    probabilities, labels = split
    classes = range(probabilities.shape[1])
    score = BY_NAME["roc_auc"].score(Params(), probabilities, labels)
    expected = [reference.roc_auc_score(labels == index, probabilities[:, index]) for index in classes]
    same_figures(score.per_class, expected)
    same_figures([score.value], [np.mean(expected)])
    if score.value is not None:
        assert score.value == CLOSE(reference.roc_auc_score(labels, probabilities, multi_class="ovr"))


def test_auc_counts_ties_as_half():
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    assert BY_NAME["roc_auc"].score(Params(), probabilities, np.array([0, 1, 1])).value == 0.75


def test_a_tie_goes_to_the_first_class():
    assert BY_NAME["accuracy"].score(Params(), np.array([[0.5, 0.5]]), np.array([0])).value == 1.0


def test_a_class_that_is_never_predicted_counts_as_nothing_and_is_named():
    score = BY_NAME["precision"].score(AverageParams(), one_hot([0, 0, 1], 4), np.array([0, 2, 1]))
    assert score.value == pytest.approx((0.5 + 1 + 0) / 3)
    assert score.per_class == (0.5, 1.0, None, None)
    assert score.undefined == (
        "class 2 was never predicted and counts as 0 in the average, as in scikit-learn; "
        "class 3 occurs neither among labels nor predictions and is left out of the average"
    )


def test_a_positive_class_that_is_never_predicted_has_no_precision():
    score = BY_NAME["precision"].score(AverageParams(), one_hot([0, 0], 2), np.array([0, 1]))
    assert score == Score(value=None, per_class=(0.5, None), undefined="class 1 was never predicted")


def test_specificity_of_a_split_of_one_class():
    score = BY_NAME["specificity"].score(AverageParams(), one_hot([0, 1], 3), np.array([1, 1]))
    assert (score.value, score.per_class) == (0.5, (0.5, None, 1.0))
    assert score.undefined == "class 1 is shown by all images and is left out of the average"
    score = BY_NAME["specificity"].score(AverageParams(), one_hot([0, 1], 2), np.array([1, 1]))
    assert (score.value, score.undefined) == (None, "class 1 is shown by all images")


def test_an_f1_of_zero_is_a_figure():
    score = BY_NAME["f1"].score(AverageParams(), one_hot([0, 0], 2), np.array([0, 1]))
    assert (score.value, score.undefined) == (0.0, "")


def test_balanced_accuracy_leaves_out_absent_classes_and_says_so():
    score = BY_NAME["balanced_accuracy"].score(Params(), one_hot([0, 1, 1], 4), np.array([0, 0, 1]))
    assert (score.value, score.per_class) == (0.75, (0.5, 1.0, None, None))
    assert score.undefined == "classes 2 and 3 have no images and are left out of the average"


def test_auc_is_undefined_as_soon_as_one_class_is_absent_but_the_others_are_reported():
    score = BY_NAME["roc_auc"].score(Params(), one_hot([0, 1, 1], 3), np.array([0, 1, 1]))
    assert score.value is None
    assert score.per_class == (1.0, 1.0, None)
    assert score.undefined == "class 2 has no images, so the average is undefined"


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_of_a_split_of_one_class(classes):
    score = BY_NAME["roc_auc"].score(Params(), one_hot([0, 1], classes), np.array([1, 1]))
    assert score == Score(value=None, per_class=(None,) * classes, undefined="all images are of class 1")


@pytest.mark.parametrize("metric", metrics.METRICS, ids=lambda metric: metric.name)
def test_a_split_without_images_has_no_figures(metric):
    score = metric.score(metric.params(), np.empty((0, 3)), np.empty(0, np.int64))
    assert score == Score(value=None, per_class=(None, None, None), undefined="there are no images")


@pytest.mark.parametrize("metric", OF_ONE_LABEL, ids=lambda metric: metric.name)
def test_figures_are_plain_numbers_and_inputs_stay_as_they_are(metric):
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 50), rng.integers(0, 4, 50)
    probabilities.flags.writeable = labels.flags.writeable = False
    score = metric.score(metric.params(), probabilities, labels)
    assert {type(figure) for figure in (score.value, *score.per_class)} == {float}


# ── Several labels an image ─────────────────────────────────────────────────────────────────────


@settings(max_examples=40)
@given(labelled())
def test_accuracy_of_several_labels_is_that_of_medmnist(split):
    probabilities, labels = split
    expected = by_class(reference.accuracy_score, probabilities > 0.5, labels)
    score = BY_NAME["accuracy"].score(Params(), probabilities, labels)
    assert (score.value, score.per_class) == (CLOSE(np.mean(expected)), CLOSE(tuple(expected)))
    exact = BY_NAME["exact_match"].score(Params(), probabilities, labels).value
    assert exact == CLOSE(reference.accuracy_score(labels, probabilities > 0.5))


@pytest.mark.parametrize("params", [MACRO, WEIGHTED])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@settings(max_examples=40)
@given(split=labelled())
def test_averages_over_classes_of_several_labels(name, params, split):
    """A class that no image shows or is given is left out, where scikit-learn would count it as 0."""
    probabilities, labels = split
    given_to = probabilities > 0.5
    score = BY_NAME[name].score(params, probabilities, labels)
    function = partial(getattr(reference, f"{name}_score"), zero_division=np.nan)
    same_figures(score.per_class, function(labels, given_to, average=None))
    seen = np.flatnonzero((given_to | (labels == 1)).any(axis=0))
    if score.value is not None:
        expected = (
            getattr(reference, f"{name}_score")(
                labels[:, seen], given_to[:, seen], average=params.average, zero_division=0
            )
            if len(seen) > 1
            else score.per_class[seen[0]] or 0
        )
        assert score.value == CLOSE(expected)
    assert (None in (score.value, *score.per_class)) == bool(score.undefined)


@settings(max_examples=40)
@given(labelled())
@pytest.mark.filterwarnings("ignore")
def test_auc_and_balanced_accuracy_of_several_labels(split):
    probabilities, labels = split
    areas = by_class(reference.roc_auc_score, probabilities, labels)
    score = BY_NAME["roc_auc"].score(Params(), probabilities, labels)
    same_figures(score.per_class, areas)
    same_figures([score.value], [np.mean(areas)])
    assert (score.value is None) == ("is undefined" in score.undefined)
    balanced = BY_NAME["balanced_accuracy"].score(Params(), probabilities, labels)
    told = by_class(reference.balanced_accuracy_score, probabilities > 0.5, labels)
    told = [figure if area == area else np.nan for figure, area in zip(told, areas, strict=True)]
    same_figures(balanced.per_class, told)
    same_figures([balanced.value], [np.nanmean(told)])


def test_two_classes_of_several_labels_are_averaged():
    labels, probabilities = np.array([[1, 1], [0, 1]]), np.array([[0.9, 0.9], [0.9, 0.1]])
    score = BY_NAME["recall"].score(AverageParams(), probabilities, labels)
    assert (score.value, score.per_class) == (0.75, (1.0, 0.5))
    score = BY_NAME["roc_auc"].score(Params(), probabilities, labels)
    assert (score.value, score.per_class) == (None, (0.5, None))
    assert score.undefined == "class 1 is shown by all images or none, so the average is undefined"


@pytest.mark.parametrize("params", [MACRO, WEIGHTED])
@settings(max_examples=40)
@given(split=labelled())
def test_specificity_of_several_labels(params, split):
    probabilities, labels = split
    told = by_class(
        lambda truth, given: reference.recall_score(truth == 0, given <= 0.5, zero_division=np.nan),
        probabilities,
        labels,
    )
    score = BY_NAME["specificity"].score(params, probabilities, labels)
    same_figures(score.per_class, told)
    seen = ((probabilities > 0.5) | (labels == 1)).any(axis=0) & ~np.isnan(told)
    shares = labels.sum(axis=0)[seen] if params is WEIGHTED else np.ones(seen.sum())
    expected = np.average(np.array(told)[seen], weights=shares) if shares.any() else np.nan
    same_figures([score.value], [expected])


def test_of_images_that_show_nothing_there_is_nothing_to_average():
    labels = np.zeros((3, 2), np.int64)
    score = BY_NAME["recall"].score(WEIGHTED, np.array([[0.9, 0.1]] * 3), labels)
    assert score.value is None
    assert score.undefined.startswith("no image shows any class")


@pytest.mark.parametrize("metric", OF_SEVERAL, ids=lambda metric: metric.name)
def test_metrics_of_several_labels_keep_the_contract(metric):
    check_component(metric)


def test_all_metrics_together_are_quick_enough_for_every_epoch():
    """A generous bound for a busy machine; on a quiet core all take 5 ms, most of it roc_auc."""
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(9), 10_000), rng.integers(0, 9, 10_000)
    best = min(_seconds_for_all(probabilities, labels) for _ in range(5))
    assert best < 0.15


def _seconds_for_all(probabilities, labels):
    begin = time.perf_counter()
    for metric in OF_ONE_LABEL:
        metric.score(metric.params(), probabilities, labels)
    return time.perf_counter() - begin


def test_listing_the_metrics_imports_nothing_heavy():
    code = (
        "import sys, histoflow_plugins.metrics as m; m.histoflow_metrics(); "
        "print([name for name in ('numpy', 'sklearn', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
