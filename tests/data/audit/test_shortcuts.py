"""How far colour alone gets is told, beside what guessing gets."""

from __future__ import annotations

import numpy as np

from auditing import coloured, examined, in_turn, noise, only
from histoflow.data.audit import classifiers, shortcuts

SPLITS = in_turn(300, "train", "train", "val", "test")
PINK, BLUE, GREY = (220, 150, 190), (150, 130, 200), (180, 180, 180)


def test_classes_of_a_colour_each_are_warned_of() -> None:
    labels = np.arange(300) % 3
    pixels = coloured(np.array([PINK, BLUE, GREY])[labels], np.random.default_rng(0))
    found = only(shortcuts.check(examined(labels, SPLITS, pixels)))
    assert (found.severity, found.setting) == ("warning", "shortcuts")
    mean, histogram = found.figures["probes"]
    assert (mean["by"], histogram["by"]) == ("mean colour", "colour histogram")
    for probe in (mean, histogram):
        assert probe["balanced_accuracy"]["low"] > 0.8
        assert probe["chance"] == 0.3333
    assert "chance is 0.33" in found.message


def test_colours_that_have_nothing_to_do_with_classes_are_fine() -> None:
    found = only(shortcuts.check(examined(np.arange(300) // 4 % 3, SPLITS)))
    assert found.severity == "ok"
    low, high = (found.figures["probes"][0]["balanced_accuracy"][end] for end in ("low", "high"))
    assert low < 1 / 3 < high


def test_colours_that_differ_a_little_are_noted() -> None:
    labels = np.arange(900) // 4 % 2
    chance = np.random.default_rng(0)
    colours = chance.normal(160, 12, (900, 3)) + 12 * labels[:, None] * (1, 0, 0)
    pixels = coloured(colours, chance)
    found = only(shortcuts.check(examined(labels, in_turn(900, "train", "train", "val", "val"), pixels)))
    assert found.severity == "note"


def test_a_histogram_finds_what_the_mean_hides() -> None:
    """One class is grey, the other black and white: alike on average, like nothing else in their colours."""
    labels = np.arange(300) // 4 % 2
    pixels = np.full((300, 8, 8, 3), 128, np.uint8)
    pixels[labels == 1, ::2] = 0
    pixels[labels == 1, 1::2] = 255
    pixels += np.random.default_rng(0).integers(0, 2, pixels.shape, np.uint8) * (pixels < 255)
    histogram = only(shortcuts.check(examined(labels, SPLITS, pixels))).figures["probes"][1]
    assert histogram["accuracy"]["value"] == 1.0
    assert 0.8 < histogram["accuracy"]["low"] < 1.0


def test_the_commonest_class_stands_beside_the_accuracy() -> None:
    """Nine of ten images are of one class: always saying so is right in 90 %, and tells nothing."""
    labels = (np.arange(600) % 10 == 0).astype(int)
    splits = np.repeat(["train", "val"], 300).tolist()
    probe = only(shortcuts.check(examined(labels, splits))).figures["probes"][0]
    assert probe["majority"] == 0.9
    assert probe["accuracy"]["value"] > 0.8
    assert probe["balanced_accuracy"]["low"] < 0.5


def test_grey_images_are_asked_by_brightness() -> None:
    labels = np.arange(300) // 4 % 2
    pixels = np.clip(noise(300, channels=1) // 4 + 100 * labels[:, None, None, None], 0, 255).astype(np.uint8)
    found = only(shortcuts.check(examined(labels, SPLITS, pixels)))
    assert "by mean brightness and 1.00" in found.message


def test_labels_that_go_together_are_scored_by_the_mean_of_their_areas() -> None:
    labels = np.stack([np.arange(300) // 4 % 2, np.arange(300) // 8 % 2, np.zeros(300, int)], axis=1).astype(
        np.uint8
    )
    colours = 120 + 80 * labels[:, [0, 0, 0]]
    found = only(shortcuts.check(examined(labels, SPLITS, coloured(colours, np.random.default_rng(0)))))
    assert 0.65 < found.figures["probes"][0]["auc"]["value"] < 0.85
    assert "a mean AUC over the labels of 0.7" in found.message


def test_few_slides_widen_the_interval() -> None:
    """One slide in five of val is stained the other way round: all its images are wrong together."""
    labels = np.arange(600) % 2
    splits = np.repeat(["train", "val"], 300).tolist()
    swapped = (np.arange(600) >= 300) & (np.arange(600) // 30 % 5 == 0)
    pixels = coloured(np.array([PINK, BLUE])[labels ^ swapped], np.random.default_rng(0))
    widths = []
    for groups in (None, [f"slide-{place // 30}" for place in range(600)]):
        probe = only(shortcuts.check(examined(labels, splits, pixels, groups))).figures["probes"][0]
        assert probe["accuracy"]["value"] == 0.8
        widths.append(probe["accuracy"]["high"] - probe["accuracy"]["low"])
    assert widths[1] > 2 * widths[0]


def test_a_val_of_one_slide_is_noted_and_no_more() -> None:
    labels = np.arange(300) % 2
    pixels = coloured(np.array([PINK, BLUE])[labels], np.random.default_rng(0))
    splits = in_turn(300, "train", "train", "val", "val")
    for several in (labels, np.stack([labels, 1 - labels], axis=1).astype(np.uint8)):
        found = only(shortcuts.check(examined(several, splits, pixels, groups=splits)))
        assert found.severity == "note"
        assert "is of one group, so nothing can be said of chance" in found.message


def test_a_class_that_train_or_val_lacks_is_no_stumbling_block() -> None:
    labels = np.where(np.arange(300) < 100, 0, np.arange(300) % 3)
    splits = ["train"] * 100 + in_turn(200, "val", "test")
    found = only(shortcuts.check(examined(labels, splits)))
    assert found.figures["probes"][0]["balanced_accuracy"]["value"] == 0.3333
    one = only(shortcuts.check(examined(np.zeros(300, int), SPLITS, classes=("a", "b"))))
    assert one.severity == "ok"


def test_images_that_are_all_the_same_are_no_stumbling_block() -> None:
    pixels = np.zeros((300, 8, 8, 3), np.uint8)
    assert only(shortcuts.check(examined(np.arange(300) // 4 % 2, SPLITS, pixels))).severity == "ok"


def test_so_few_images_are_not_asked() -> None:
    found = only(shortcuts.check(examined([0, 1], ["train", "val"])))
    assert (found.severity, found.figures) == ("ok", {})


def test_the_same_images_give_the_same_figures() -> None:
    made = examined(np.arange(300) % 3, SPLITS)
    assert only(shortcuts.check(made)) == only(shortcuts.check(made))


def test_the_classifier_bends_where_a_straight_line_fails() -> None:
    features = np.random.default_rng(0).normal(size=(2000, 2))
    labels = ((features**2).sum(axis=1) > 1.4).astype(np.int64)  # a ring around a disc
    model = classifiers.fit(features[:1000], labels[:1000], 2)
    assert (model.scores(features[1000:]).argmax(axis=1) == labels[1000:]).mean() > 0.93
