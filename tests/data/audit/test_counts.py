"""Classes that a split lacks or hardly has, and splits that are not as large as was asked, are told."""

from __future__ import annotations

import numpy as np

from auditing import examined, in_turn
from histoflow.data.audit import counts
from histoflow.data.audit.finding import Finding
from histoflow.data.splits import _by_hash

THREE = ("train", "val", "test")


def findings(*given, asked=None, **more) -> dict[str, Finding]:
    """The last of each check."""
    found = [answer.finding for answer in counts.check(examined(*given, **more), asked or {})]
    return {finding.check: finding for finding in found}


def test_classes_that_stand_in_every_split_often_are_fine() -> None:
    found = findings(np.arange(240) % 2, in_turn(240, *(3 * ["train"]), *(3 * ["val"]), *(3 * ["test"])))
    assert {name: finding.severity for name, finding in found.items()} == {
        "missing_class": "ok",
        "rare_class": "ok",
    }


def test_a_class_that_a_split_lacks_is_named() -> None:
    labels = np.arange(120) // 30  # a, b, c, d in turn
    splits = ["train"] * 60 + ["val"] * 30 + ["test"] * 30
    found = [answer.finding for answer in counts.check(examined(labels, splits), {})]
    assert [(one.severity, one.message) for one in found if one.check == "missing_class"] == [
        ("warning", "The train split has no image of the classes 'c', 'd'."),
        ("warning", "The val split has no image of the classes 'a', 'b', 'd'."),
        ("warning", "The test split has no image of the classes 'a', 'b', 'c'."),
    ]
    assert {one.setting for one in found} == {"classes"}


def test_a_seed_under_which_no_split_lacks_a_class_is_named() -> None:
    groups = [f"slide-{place // 5}" for place in range(200)]
    labels = np.arange(200) // 5 % 2
    splits = ["val" if label and place < 60 else "train" for place, label in enumerate(labels)]
    message = findings(labels, splits, groups=groups, asked={"val": 0.2})["missing_class"].message
    assert message.startswith("The test split has no image of the classes 'a', 'b'.")
    found = [
        answer.finding.message
        for answer in counts.check(examined(labels, splits, groups=groups), {"val": 0.2})
        if answer.finding.message.startswith("The val split has no image of class 'a'. Change split.seed")
    ]
    assert "each class in each of them" in found[0]


def test_a_class_that_no_image_has_is_missing_everywhere() -> None:
    found = findings(np.zeros(30, int), in_turn(30, *THREE), classes=("a", "b"))
    assert found["missing_class"].message == "The test split has no image of class 'b'."


def test_a_class_of_few_images_or_of_a_small_share_is_rare() -> None:
    labels = [0] * 3000 + [1] * 25 + [0] * 100 + [1] * 40 + [0] * 100 + [1] * 19
    splits = ["train"] * 3025 + ["val"] * 140 + ["test"] * 119
    rare = findings(labels, splits)["rare_class"]
    assert rare.severity == "warning"
    assert rare.images == 44
    assert "fewer than 20 images, or under 1%, of a split: 'b' (train 25, test 19)." in rare.message


def test_an_image_of_several_labels_counts_in_each() -> None:
    labels = np.zeros((90, 3), np.uint8)
    labels[:, 0] = 1
    labels[:60, 1] = 1
    made = examined(labels, in_turn(90, *THREE))
    assert counts.per_class(made).tolist() == [[30, 20, 0]] * 3
    assert "has no image of class 'c'" in findings(labels, in_turn(90, *THREE))["missing_class"].message


def test_splits_of_about_the_shares_asked_for_are_fine() -> None:
    splits = ["train"] * 70 + ["val"] * 17 + ["test"] * 13
    found = findings(np.arange(100) % 2, splits, asked={"val": 0.15, "test": 0.15})["split_shares"]
    assert found.severity == "ok"
    assert "val 17% and test 13%" in found.message
    assert found.figures["found"] == {"val": 0.17, "test": 0.13}


def test_splits_that_the_data_set_brings_are_held_to_no_share() -> None:
    assert "split_shares" not in findings(np.arange(90) % 2, in_turn(90, *THREE))


def test_a_share_is_of_the_images_that_were_dealt_out() -> None:
    """Test is official and half of all: val, cut from the rest, is a quarter of that."""
    splits = ["train"] * 150 + ["val"] * 50 + ["test"] * 200
    found = findings(np.arange(400) % 2, splits, asked={"val": 0.25})["split_shares"]
    assert found.severity == "ok"


def test_a_seed_that_deals_better_is_named_and_does() -> None:
    groups = [f"slide-{place // 10}" for place in range(200)]
    splits = ["val" if place < 100 else "test" if place < 110 else "train" for place in range(200)]
    found = findings(np.arange(200) % 2, splits, groups=groups, asked={"val": 0.2, "test": 0.2})[
        "split_shares"
    ]
    assert found.severity == "warning"
    assert "The val split holds 50% of the images where 20% were asked for." in found.message
    assert "The test split holds 5% of the images" in found.message
    seed = int(found.message.split("split.seed=")[1].split()[0])
    dealt = [_by_hash(f"group {group}", 0.2, 0.2, seed) for group in groups]
    assert all(abs(dealt.count(split) / 200 - 0.2) <= 0.05 for split in ("val", "test"))


def test_a_class_that_is_dealt_unevenly_is_told_though_the_whole_is_even() -> None:
    labels = [0] * 200 + [1] * 200
    splits = ["val"] * 70 + ["train"] * 130 + ["val"] * 10 + ["train"] * 190
    message = findings(labels, splits, asked={"val": 0.2})["split_shares"].message
    assert "The val split holds 35% of 'a', 5% of 'b' where 20% were asked for." in message
    assert "Another split.seed" in message
