"""Images of the same pixels, and groups, that stand where they should not."""

from __future__ import annotations

import numpy as np

from histoflow.data.audit import copies, groups
from painted_patches import by_check, examined, patches

TRAIN, VAL, TEST = 0, 1, 2


def test_copies_within_a_split_are_found_and_the_first_is_kept():
    images = patches(28)[[0, 1, 2, 1, 3, 1]]
    found = by_check(list(copies.check(examined(images))))["duplicates"]
    assert found.drop == (3, 5)
    assert found.finding.images == 3
    assert found.finding.examples == ("1.png = 3.png", "1.png = 5.png")
    assert found.finding.figures["per_split"] == {"train": 3, "val": 0, "test": 0}


def test_copies_in_other_splits_are_leaks_and_no_duplicates():
    images = patches(28)[[0, 1, 2, 0, 1, 2]]
    found = by_check(list(copies.check(examined(images, splits=[TRAIN, VAL, TRAIN, TEST, TEST, VAL]))))
    assert found["duplicates"].finding.severity == "ok"
    into_test, into_val = found["copies_in_test"], found["copies_in_val"]
    assert (into_test.drop, into_test.finding.setting) == ((0, 1), "leaks_into_test")
    assert into_test.finding.images == 2
    assert into_test.finding.examples == ("3.png (test) = 0.png (train)", "4.png (test) = 1.png (val)")
    assert "Name each image's patient or slide as its group" in into_test.finding.advice
    assert (into_val.drop, into_val.finding.setting) == ((2,), "leaks_into_val")


def test_copies_under_two_labels_are_conflicts_and_those_of_train_go():
    images = patches(28)[[0, 1, 0, 1]]
    found = by_check(
        list(copies.check(examined(images, labels=[3, 4, 5, 4], splits=[TRAIN, TRAIN, TEST, TRAIN])))
    )
    conflict = found["label_conflicts"]
    assert conflict.drop == (0,)
    assert conflict.finding.images == 2
    assert conflict.finding.examples == ("0.png (lymphocytes) = 2.png (smooth_muscle)",)


def test_labels_of_many_classes_conflict_when_any_of_them_differs():
    images = patches(28)[[0, 1, 0, 1]]
    labels = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
    conflict = by_check(list(copies.check(examined(images, labels=labels))))["label_conflicts"]
    assert conflict.drop == (0, 2)
    assert conflict.finding.examples == ("0.png (adipose and background) = 2.png (adipose)",)


def test_images_of_one_colour_are_not_called_copies():
    images = np.full((4, 16, 16, 3), 200, np.uint8)
    assert all(
        a.finding.severity == "ok" for a in copies.check(examined(images, splits=[TRAIN, TRAIN, VAL, TEST]))
    )


def test_different_images_are_not_copies():
    answers = list(copies.check(examined(patches(28), splits=np.arange(90) % 3)))
    assert [answer.finding.severity for answer in answers] == ["ok"] * 4


def test_groups_in_two_splits_are_found():
    names = ["a", "a", "b", "b", "c", "c"]
    found = examined(patches(28)[:6], splits=[TRAIN, TEST, TRAIN, VAL, TEST, TEST], groups=names)
    into_test, into_val = groups.check(found)
    assert (into_test.drop, into_test.finding.figures["groups"]) == ((0,), 1)
    assert into_test.finding.images == 1
    assert (into_val.drop, into_val.finding.examples) == ((2,), ("b",))


def test_groups_that_keep_to_their_split_are_well():
    found = examined(patches(28)[:3], splits=[TRAIN, VAL, TEST], groups=["a", "b", "c"])
    assert [answer.finding.severity for answer in groups.check(found)] == ["ok", "ok"]


def test_without_groups_nothing_is_said_of_them():
    assert list(groups.check(examined(patches(28)[:3]))) == []
