"""What a file tells of its label beside its pixels is found, and chance is not mistaken for it."""

from __future__ import annotations

import numpy as np
import pytest

from auditing import examined, in_turn, only
from histoflow.data.audit import metadata
from histoflow.data.audit.finding import Finding

LABELS = np.arange(240) % 3
SPLITS = in_turn(240, "train", "train", "train", "train", "val", "val", "test")


def check(files, labels=LABELS, splits=SPLITS, **more) -> Finding:
    return only(metadata.check(examined(labels, splits, files=files, **more)))


def test_a_quality_that_one_class_alone_was_saved_with_is_warned_of() -> None:
    found = check(
        {"quality": np.where(LABELS == 1, 75, 90), "bytes": np.random.default_rng(0).normal(size=240)}
    )
    assert (found.severity, found.setting) == ("warning", "metadata")
    assert "JPEG quality tells 'b' (low) from the others, AUC 1.00" in found.message
    assert found.figures["tells"][0]["class"] == "b"
    assert found.figures["tells"][0]["auc"]["low"] > 0.65


def test_a_weak_hint_is_noted() -> None:
    labels = np.arange(1200) % 2
    size = np.random.default_rng(1).normal(size=1200) + 0.6 * labels
    found = check({"height": size}, labels, in_turn(1200, "train", "val", "val", "test", "test"))
    assert found.severity == "note"
    assert "Image height tells 'b' (high)" in found.message


def test_a_class_that_merely_compresses_better_is_noted() -> None:
    size = np.random.default_rng(0).normal(size=240) + 1.0 * (LABELS > 0)
    found = check({"bytes": size})
    assert found.severity == "note"
    assert "File size tells 'a' (low)" in found.message
    assert "how much detail an image shows" in found.message


def test_files_that_tell_nothing_are_fine() -> None:
    chance = np.random.default_rng(5)
    files = {"bytes": chance.normal(size=240), "width": np.full(240, 96), "height": np.full(240, 96)}
    found = check(files)
    assert found.severity == "ok"
    assert "file size, image width, image height, aspect ratio" in found.message


def test_the_form_of_images_counts_where_neither_side_alone_does() -> None:
    width = np.random.default_rng(0).integers(60, 200, 240).astype(float)
    found = check({"width": width, "height": np.where(LABELS == 0, width / 2, width)})
    assert "Aspect ratio tells 'a' (high)" in found.message


def test_what_is_not_known_of_some_files_is_asked_of_the_others() -> None:
    quality = np.where(LABELS == 1, 75.0, 90.0)
    quality[::5] = np.nan
    assert check({"quality": quality}).severity == "warning"
    assert check({"quality": np.full(240, np.nan)}).severity == "ok"


def test_images_without_files_have_nothing_to_tell() -> None:
    assert "no files of their own" in check({}).message


def test_a_slide_that_differs_is_one_slide_and_no_rule() -> None:
    """All images of class b come from two slides, one of which was saved otherwise: that may be chance."""
    labels = np.repeat([0, 1], 120)
    groups = [f"slide-{place // 60}" for place in range(240)]
    quality = np.where(np.arange(240) >= 180, 60.0, 90.0)
    splits = in_turn(240, "train", "val")
    assert check({"quality": quality}, labels, splits).severity == "warning"
    assert check({"quality": quality}, labels, splits, groups=groups).severity != "warning"


def test_a_val_of_one_slide_is_noted_and_no_more() -> None:
    labels, splits = np.arange(240) % 2, in_turn(240, "train", "train", "val", "val")
    groups = ["val" if split == "val" else f"train-{place % 5}" for place, split in enumerate(splits)]
    found = check({"quality": np.where(labels == 0, 90.0, 60.0)}, labels, splits, groups=groups)
    assert found.severity == "note"
    assert "val, or a class in it, is of one group, so nothing can be said of chance" in found.message
    assert found.figures["tells"][0]["auc"]["low"] is None


def test_qualities_that_vary_by_slide_are_no_finding_where_val_has_two_slides() -> None:
    groups, warned = np.repeat(np.arange(12), 40), 0
    splits = ["train"] * 320 + ["val"] * 80 + ["test"] * 80
    for seed in range(60):
        chance = np.random.default_rng(seed)
        labels = (chance.random(480) < chance.random(12)[groups]).astype(int)
        quality = chance.normal(size=12)[groups] + chance.normal(0, 0.3, 480)
        found = check({"quality": quality}, labels, splits, groups=[f"slide-{group}" for group in groups])
        warned += found.severity == "warning"
    assert warned <= 1


def test_a_class_of_other_files_than_jpegs_is_warned_of() -> None:
    found = check({"quality": np.where(LABELS == 1, np.nan, 90.0), "bytes": np.full(240, 1000)})
    assert found.severity == "warning"
    assert "File format tells 'b' (not JPEG) from the others, AUC 1.00" in found.message


def test_a_file_that_could_not_be_read_is_of_no_format() -> None:
    gone = np.where(LABELS == 1, np.nan, 1.0)
    assert "file format" not in check({"quality": gone * 90, "bytes": gone * 1000}).message.lower()


@pytest.mark.parametrize("labels", [np.zeros(240, int), np.array([1] + [0] * 239)])
def test_a_class_of_no_or_one_image_is_no_stumbling_block(labels) -> None:
    found = check({"bytes": np.arange(240.0)}, labels, classes=("a", "b"))
    assert found.severity == "ok"


def test_labels_that_go_together_are_asked_about_one_by_one() -> None:
    labels = np.stack([np.arange(240) % 2, np.arange(240) // 2 % 2], axis=1).astype(np.uint8)
    found = check(
        {"bytes": labels[:, 1] * 1000.0}, labels, in_turn(240, "train", "train", "val", "val", "test")
    )
    assert [tell["class"] for tell in found.figures["tells"]] == ["b", "a"]
    assert "tells 'b' (high)" in found.message
    assert "tells 'a'" not in found.message
