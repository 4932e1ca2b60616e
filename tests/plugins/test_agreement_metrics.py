"""Cohen's kappa and Matthews' coefficient beside scikit-learn's, and why there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as reference

from histoflow import Score
from scoring import CLOSE, labelled, one_hot, same_figures, score, splits

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning"),
    pytest.mark.filterwarnings("ignore:A single label was found"),
]


def kappa(labels, predictions, classes=2, weights="none"):
    asked = None if weights == "none" else weights
    return reference.cohen_kappa_score(labels, predictions, labels=range(classes), weights=asked)


def matthews(labels, predictions):
    """Scikit-learn's 0 is a quotient of two zeros where either is of one class."""
    if 1 in (len(np.unique(labels)), len(np.unique(predictions))):
        return np.nan
    return reference.matthews_corrcoef(labels, predictions)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@settings(max_examples=25)
@given(split=splits())
def test_kappa(weights, split):
    probabilities, labels = split
    predictions, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    found = score("cohen_kappa", probabilities, labels, weights=weights)
    same_figures([found.value], [kappa(labels, predictions, classes, weights)])
    each = [kappa(labels == index, predictions == index) for index in range(classes)]
    same_figures(found.per_class, each)
    assert (None in (found.value, *found.per_class)) == bool(found.undefined)


def test_a_grade_further_off_costs_more_only_where_classes_are_weighted():
    labels, near, far = [0, 0, 1, 1, 2, 2], one_hot([1, 0, 1, 1, 2, 2], 3), one_hot([2, 0, 1, 1, 2, 2], 3)
    plain = [score("cohen_kappa", given, labels).value for given in (near, far)]
    graded = [score("cohen_kappa", given, labels, weights="quadratic").value for given in (near, far)]
    assert plain[0] == CLOSE(plain[1])
    assert graded[0] > graded[1]


def test_what_one_class_alone_tells():
    found = score("cohen_kappa", one_hot([1, 1], 3), [1, 1])
    why = "all images are of class 1 and were given to it, as they would be by chance"
    assert found == Score(value=None, per_class=(None,) * 3, undefined=why)
    assert score("cohen_kappa", one_hot([0, 1], 2), [1, 1]).value == 0
    found = score("mcc", one_hot([0, 1], 2), [1, 1])
    assert found == Score(value=None, per_class=(None, None), undefined="all images are of class 1")
    found = score("mcc", one_hot([1, 1], 2), [0, 1])
    assert found == Score(value=None, per_class=(None, None), undefined="all images were given to class 1")


@settings(max_examples=40)
@given(splits())
def test_mcc(split):
    probabilities, labels = split
    predictions = probabilities.argmax(axis=1)
    found = score("mcc", probabilities, labels)
    same_figures([found.value], [matthews(labels, predictions)])
    each = [matthews(labels == index, predictions == index) for index in range(probabilities.shape[1])]
    same_figures(found.per_class, each)
    assert (None in (found.value, *found.per_class)) == bool(found.undefined)


def test_absent_classes_are_named():
    found = score("mcc", one_hot([0, 1, 1, 3], 4), [0, 1, 2, 0])
    assert [figure is None for figure in found.per_class] == [False, False, True, True]
    assert found.undefined == "class 3 has no images; class 2 was never predicted"
    found = score("cohen_kappa", one_hot([0, 1, 1], 4), [0, 1, 0])
    assert found.undefined == "classes 2 and 3 occur neither among labels nor predictions"


@settings(max_examples=40)
@given(labelled())
def test_mcc_of_several_labels_is_the_mean_over_the_classes_that_differ(split):
    probabilities, labels = split
    pairs = list(zip(labels.T, probabilities.T > 0.5, strict=True))
    each = [matthews(*pair) for pair in pairs]
    found = score("mcc", probabilities, labels)
    same_figures(found.per_class, each)
    differing = [
        np.nan_to_num(figure) for figure, (truth, _) in zip(each, pairs, strict=True) if np.ptp(truth)
    ]
    same_figures([found.value], [np.mean(differing) if differing else np.nan])
    assert (None in (found.value, *found.per_class)) == bool(found.undefined)


def test_of_several_labels_it_is_said_what_becomes_of_a_class_without_figure():
    found = score("mcc", [[0.9, 0.9, 0.1], [0.1, 0.9, 0.1]], [[1, 1, 1], [0, 0, 1]])
    assert (found.value, found.per_class) == (0.5, (1.0, None, None))
    assert found.undefined == (
        "class 2 is shown by all images or none and is left out of the average; "
        "class 1 was given to all images or none and counts as 0 in the average, as in scikit-learn"
    )
