"""Brier score and log loss beside scikit-learn's; the calibration error beside a plain count in bins."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as reference

from scoring import CLOSE, by_class, labelled, one_hot, same_figures, score, splits


@settings(max_examples=30)
@given(splits())
def test_brier_score_is_scikit_learns_and_that_of_a_class_is_of_its_probability(split):
    probabilities, labels = split
    classes = range(probabilities.shape[1])
    found = score("brier", probabilities, labels)
    expected = (
        reference.brier_score_loss(labels, probabilities[:, 1], labels=[0, 1], pos_label=1)
        if len(classes) == 2
        else reference.brier_score_loss(labels, probabilities, labels=classes)
    )
    assert found.value == CLOSE(expected)
    truth = one_hot(labels, len(classes)).astype(int)
    assert found.per_class == CLOSE(tuple(by_class(brier, probabilities, truth)))
    assert not found.undefined


def brier(shown, probabilities):
    return reference.brier_score_loss(shown, probabilities, labels=[0, 1], pos_label=1)


def log_loss(shown, probabilities):
    return reference.log_loss(shown, probabilities, labels=[0, 1])


@settings(max_examples=30)
@given(splits())
def test_log_loss_is_scikit_learns_and_that_of_a_class_is_of_its_images(split):
    probabilities, labels = split
    classes = range(probabilities.shape[1])
    found = score("log_loss", probabilities, labels)
    assert found.value == CLOSE(reference.log_loss(labels, probabilities, labels=classes))
    members = [labels == index for index in classes]
    each = [
        reference.log_loss(labels[inside], probabilities[inside], labels=classes) if inside.any() else np.nan
        for inside in members
    ]
    same_figures(found.per_class, each)
    assert (None in found.per_class) == bool(found.undefined)


@settings(max_examples=30)
@given(labelled())
def test_of_several_labels_both_are_the_mean_over_the_classes(split):
    for name, function in (("brier", brier), ("log_loss", log_loss)):
        found, each = score(name, *split), by_class(function, *split)
        assert found.per_class == CLOSE(tuple(each))
        assert found.value == CLOSE(np.mean(each))


def test_a_class_without_images_has_no_log_loss():
    found = score("log_loss", one_hot([0, 1], 3), [0, 0])
    assert found.per_class[1:] == (None, None)
    assert found.undefined == "classes 1 and 2 have no images"


def test_a_certainty_that_is_wrong_costs_much_and_not_infinitely_much():
    assert score("log_loss", [[1.0, 0.0]], [1]).value == pytest.approx(36.04, abs=0.01)


def calibration_error(told, true, bins):
    """A bin holds its upper end, the first one 0 as well."""
    gaps = 0.0
    for place in range(bins):
        inside = (told > place / bins) & (told <= (place + 1) / bins) | (place == 0) & (told == 0)
        if inside.any():
            gaps += inside.sum() * abs(told[inside].mean() - true[inside].mean())
    return gaps / len(told)


@pytest.mark.parametrize("bins", [5, 15])
@settings(max_examples=30)
@given(split=splits())
def test_calibration_error(bins, split):
    probabilities, labels = split
    found = score("ece", probabilities, labels, bins=bins)
    right = probabilities.argmax(axis=1) == labels
    assert found.value == CLOSE(calibration_error(probabilities.max(axis=1), right, bins))
    each = [
        calibration_error(probabilities[:, index], labels == index, bins)
        for index in range(probabilities.shape[1])
    ]
    assert found.per_class == CLOSE(tuple(each))


@settings(max_examples=30)
@given(labelled())
def test_calibration_error_of_several_labels_is_of_all_probabilities(split):
    probabilities, labels = split
    found = score("ece", probabilities, labels)
    assert found.value == CLOSE(calibration_error(probabilities.ravel(), labels.ravel(), 15))
    each = [calibration_error(*pair, 15) for pair in zip(probabilities.T, labels.T, strict=True)]
    assert found.per_class == CLOSE(tuple(each))


def test_the_calibration_error_is_how_far_confidence_is_from_the_share_that_is_right():
    given = np.array([[0.9, 0.1]] * 8 + [[0.3, 0.7]] * 2)
    # Eight at 0.9 are all right, two at 0.7 are all wrong.
    assert score("ece", given, [0] * 10).value == CLOSE(0.8 * 0.1 + 0.2 * 0.7)


@pytest.mark.parametrize("name", ["brier", "log_loss", "ece"])
def test_a_network_that_is_sure_and_right_has_no_error(name):
    found = score(name, one_hot([0, 1, 2], 3), [0, 1, 2])
    assert (found.value, found.per_class) == (0, (0, 0, 0))
