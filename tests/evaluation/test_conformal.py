"""Prediction sets: the finite-sample level, the promise over many draws, rare classes, several labels."""

import numpy as np
import pytest

from histoflow.evaluation.conformal import ENOUGH, fit_levels

CHANCE = np.random.default_rng(2)


def shown(labels, classes):
    return labels[:, None] == np.arange(classes)


def split(labels, classes, chance=CHANCE):
    raw = chance.normal(size=(len(labels), classes))
    raw[np.arange(len(labels)), labels] += 1.5
    odds = np.exp(raw)
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("images", "place"), [(9, 1), (18, 1), (19, 2), (20, 2), (39, 4)], ids=lambda number: str(number)
)
def test_the_level_is_that_of_the_corrected_quantile(images, place):
    """⌈0.9 (n + 1)⌉ of n images reach it: all but place - 1."""
    truths = CHANCE.permutation(images) / 100
    probabilities = np.column_stack((truths, 1 - truths))
    levels, _ = fit_levels(probabilities, shown(np.zeros(images, int), 2), 0.9)
    assert levels[0] == np.sort(truths)[place - 1]


def test_too_few_images_put_every_class_into_every_set():
    levels, notes = fit_levels(split(np.array([0, 1] * 4), 2), shown(np.array([0, 1] * 4), 2), 0.9)
    assert levels == (0, 0)
    assert (
        notes[1]
        == "all classes in every set: validation holds 8 images to tell from, and a coverage of 0.9 takes 9"
    )


def test_sets_hold_the_true_class_as_often_as_promised():
    """On average over validations and tests: at least 0.8, and at most 1 / (n + 1) more."""
    chance, held = np.random.default_rng(11), []
    for _ in range(300):
        labels = chance.integers(0, 3, 90)
        probabilities = split(labels, 3, chance)
        levels, _ = fit_levels(probabilities[:40], shown(labels[:40], 3), 0.8)
        of_truth = (probabilities >= np.array(levels))[np.arange(90), labels]
        held.append(of_truth[40:].mean())
    error = np.std(held) / np.sqrt(len(held))
    assert 0.8 - 3 * error < np.mean(held) < 0.8 + 1 / 41 + 3 * error


def test_common_classes_have_a_level_each_that_holds_for_them():
    labels = np.repeat([0, 1, 2], [200, 100, 60])
    probabilities = split(labels, 3)
    levels, notes = fit_levels(probabilities, shown(labels, 3), 0.9)
    assert notes == ()
    for one in range(3):
        of_class = probabilities[labels == one, one]
        assert (
            levels[one]
            == fit_levels(of_class[:, None].repeat(2, 1), shown(np.zeros(len(of_class), int), 2), 0.9)[0][0]
        )
        assert 0.9 <= (of_class >= levels[one]).mean() < 0.92


def test_rare_classes_share_a_level_with_as_many_others_as_it_takes():
    labels = np.repeat([0, 1, 2, 3], [300, 12, 80, 5])
    probabilities = split(labels, 4)
    levels, notes = fit_levels(probabilities, shown(labels, 4), 0.9)
    assert levels[1] == levels[2] == levels[3] != levels[0]
    assert notes == (
        f"one level for classes 1, 2 and 3, as validation holds fewer than {ENOUGH} images of some of them",
    )
    together = labels != 0
    of_truth = probabilities[together, labels[together]]
    assert 0.9 <= (of_truth >= levels[1]).mean() < 0.92


def test_a_class_without_images_has_the_level_of_all():
    labels = np.repeat([0, 1], 20)
    levels, notes = fit_levels(split(labels, 3), shown(labels, 3), 0.9)
    assert len(set(levels)) == 1
    assert notes == (f"one level for all classes, as validation holds fewer than {ENOUGH} images of some",)


def test_of_several_labels_each_class_is_held_where_it_is_shown():
    labels = (CHANCE.random((400, 3)) < 0.4).astype(np.int64)
    probabilities = 0.5 * CHANCE.random((400, 3)) + 0.5 * labels
    levels, _ = fit_levels(probabilities, labels == 1, 0.95)
    for one in range(3):
        assert 0.95 <= (probabilities[labels[:, one] == 1, one] >= levels[one]).mean() < 0.97
