"""ROC AUC to the last bit, and average precision, beside scikit-learn's."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as reference

from histoflow import Score
from scoring import CLOSE, by_class, labelled, one_hot, same_figures, score, splits

EVERY_SIZE = [(64, 64, 9), (128, 32, 1), (300, 77, 9), (1000, 24, 2), (977, 1013, 1)]
POWERS_OF_TWO = EVERY_SIZE[:2]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")


def two_classes(outside, inside, digits):
    """Rounded to one digit, most scores are tied; to nine, none."""
    labels = np.repeat([0, 1], [outside, inside])
    odds = np.random.default_rng(outside).normal(size=outside + inside) + labels
    positive = np.round(1 / (1 + np.exp(-odds)), digits)
    return np.column_stack([1 - positive, positive]), labels


@pytest.mark.parametrize("size", EVERY_SIZE)
def test_auc_is_right_to_the_last_bit(size):
    probabilities, labels = two_classes(*size)
    negative, positive = (probabilities[labels == index, 1] for index in (0, 1))
    pairs = positive[:, None], negative[None, :]
    halves = 2 * int((pairs[0] > pairs[1]).sum()) + int((pairs[0] == pairs[1]).sum())
    exact = Fraction(halves, 2 * len(positive) * len(negative))
    assert score("roc_auc", probabilities, labels).value == float(exact)


@pytest.mark.parametrize("size", POWERS_OF_TWO)
def test_auc_is_scikit_learns_to_the_last_bit_where_that_does_not_round(size):
    """It sums rates; of 64 and 64 images these are exact."""
    probabilities, labels = two_classes(*size)
    assert score("roc_auc", probabilities, labels).value == reference.roc_auc_score(
        labels, probabilities[:, 1]
    )


@pytest.mark.parametrize("size", EVERY_SIZE)
def test_auc_is_as_near_to_scikit_learns_as_its_rounding(size):
    probabilities, labels = two_classes(*size)
    expected = reference.roc_auc_score(labels, probabilities[:, 1])
    assert abs(score("roc_auc", probabilities, labels).value - expected) <= 4 * np.spacing(expected)


def average_precision(shown, scores):
    """Where all images show a class, or none does, there is nothing to rank."""
    return reference.average_precision_score(shown, scores) if 0 < shown.sum() < len(shown) else np.nan


@settings(max_examples=30)
@given(splits(most=2))
def test_average_precision_of_two_classes_is_that_of_the_positive_one(split):
    probabilities, labels = split
    expected = by_class(average_precision, probabilities, np.eye(2, dtype=int)[labels])
    found = score("average_precision", probabilities, labels)
    same_figures(found.per_class, expected)
    assert found.value == found.per_class[1]
    assert (found.value is None) == bool(found.undefined)


@settings(max_examples=30)
@given(splits(least=3))
def test_average_precision_of_many_classes(split):
    probabilities, labels = split
    expected = by_class(average_precision, probabilities, np.eye(probabilities.shape[1], dtype=int)[labels])
    found = score("average_precision", probabilities, labels)
    same_figures(found.per_class, expected)
    same_figures([found.value], [np.mean(expected)])
    assert (found.value is None) == bool(found.undefined)


@settings(max_examples=30)
@given(labelled())
def test_average_precision_of_several_labels(split):
    expected = by_class(average_precision, *split)
    found = score("average_precision", *split)
    same_figures(found.per_class, expected)
    same_figures([found.value], [np.mean(expected)])
    assert (found.value is None) == ("is undefined" in found.undefined)


def test_images_that_tie_share_a_rank():
    """Both positives stand in the upper three of four, in which two of three are positive."""
    probabilities = np.column_stack([[0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.5, 0.1]])
    assert score("average_precision", probabilities, [1, 0, 1, 0]).value == CLOSE(2 / 3)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("classes", [2, 3])
def test_of_a_split_of_one_class_nothing_is_ranked(name, classes):
    found = score(name, one_hot([0, 1], classes), [1, 1])
    assert found == Score(value=None, per_class=(None,) * classes, undefined="all images are of class 1")


def test_a_class_without_images_leaves_the_average_undefined_and_the_others_told():
    found = score("average_precision", one_hot([0, 1, 1], 3), [0, 1, 1])
    assert (found.value, found.per_class) == (None, (1.0, 1.0, None))
    assert found.undefined == "class 2 has no images, so the average is undefined"
