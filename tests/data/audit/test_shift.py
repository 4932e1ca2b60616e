"""Splits that look different are told apart, those that do not are not, and slides are no shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auditing import coloured, examined, in_turn, noise
from histoflow.data.audit import shift
from histoflow.data.audit.finding import Finding

COLOUR = np.array((200, 160, 190))


def findings(splits, pixels=None, groups=None) -> dict[str, Finding]:
    labels = np.arange(len(splits)) % 2
    found = [answer.finding for answer in shift.check(examined(labels, splits, pixels, groups))]
    return {" and ".join(finding.figures.get("splits", ())): finding for finding in found}


def test_splits_of_the_same_images_look_alike() -> None:
    found = findings(in_turn(600, "train", "train", "val", "test"))
    assert list(found) == ["train and val", "val and test", "train and test"]
    for finding in found.values():
        assert (finding.severity, finding.setting) == ("ok", "shift")
        assert finding.figures["auc"]["low"] < 0.55
    assert "A validation score should predict the test score" in found["val and test"].message


def test_a_test_split_from_elsewhere_is_warned_of_with_what_gives_it_away() -> None:
    splits = in_turn(600, "train", "train", "val", "test")
    darker = np.array([60 if split == "test" else 0 for split in splits])
    pixels = coloured(COLOUR - darker[:, None] * (0.2, 0.2, 1.0), np.random.default_rng(0))
    found = findings(splits, pixels)
    assert found["train and val"].severity == "ok"
    for name in ("val and test", "train and test"):
        assert found[name].severity == "warning"
        assert found[name].figures["auc"]["low"] > 0.95
    message = found["val and test"].message
    assert "A validation score will not predict the test score" in message
    assert "less blue (share of blue 0.2" in message
    assert "darker (brightness" in message
    families = found["val and test"].figures["families"]
    assert families["colour"]["value"] > 0.99 > families["sharpness"]["value"]


def test_blur_is_found_though_colours_are_the_same() -> None:
    splits = in_turn(400, "train", "train", "train", "val", "test")
    pixels = noise(400)
    for place in np.flatnonzero(np.array(splits) == "test"):
        pixels[place] = pixels[place, ::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    found = findings(splits, pixels)["train and test"]
    assert found.severity == "warning"
    assert "more blurred" in found.message
    assert found.figures["families"]["sharpness"]["value"] > 0.9


def test_copies_within_a_split_do_not_make_it_look_different() -> None:
    splits = in_turn(120, "train", "val", "test")
    look, of = coloured(np.tile(COLOUR, (120, 1)), np.random.default_rng(0), 60), np.tile(np.arange(120), 4)
    made = examined(of % 2, [splits[place] for place in of], look[of])
    apart, together = (
        [answer.finding.figures["auc"]["value"] for answer in shift.check(seen)]
        for seen in (made, replace(made, copies=of))
    )
    assert min(apart) > 0.6
    assert max(together) < 0.6


def slides(number: int, images: int, chance: np.random.Generator, shifted: int = 0):
    """Slides with a stain each; the last ``shifted`` of them come from elsewhere."""
    stains = COLOUR + chance.normal(0, 14, (number, 3))
    stains[number - shifted :] -= (50, 0, 0)
    colours = np.repeat(stains, images, axis=0)
    return coloured(colours, chance), [f"slide-{place // images}" for place in range(number * images)]


@pytest.mark.parametrize("seed", [1, 2])
def test_an_honest_cut_of_a_few_slides_is_not_called_shifted(seed: int) -> None:
    chance = np.random.default_rng(seed)
    pixels, groups = slides(20, 20, chance)
    of_slide = chance.permutation(["train"] * 12 + ["val"] * 4 + ["test"] * 4)
    found = findings([str(split) for split in np.repeat(of_slide, 20)], pixels, groups)
    assert "warning" not in {finding.severity for finding in found.values()}


def test_slides_from_elsewhere_are_a_shift() -> None:
    pixels, groups = slides(20, 20, np.random.default_rng(4), shifted=4)
    splits = np.repeat(["train"] * 12 + ["val"] * 4 + ["test"] * 4, 20).tolist()
    found = findings(splits, pixels, groups)["train and test"]
    assert found.severity == "warning"
    assert "less red" in found.message
    assert found.figures["by_chance"][1] < found.figures["auc"]["value"]


def test_one_slide_is_too_few_to_tell_a_shift_from_a_stain() -> None:
    pixels, groups = slides(6, 40, np.random.default_rng(0), shifted=1)
    splits = np.repeat(["train"] * 4 + ["val"] + ["test"], 40).tolist()
    found = findings(splits, pixels, groups)["train and test"]
    assert found.severity == "note"
    assert "too few groups" in found.message


def test_a_group_on_both_sides_does_not_stop_the_comparison() -> None:
    groups = [f"slide-{place // 100}" for place in range(400)]
    found = findings(in_turn(400, "train", "val", "test"), groups=groups)
    assert {finding.severity for finding in found.values()} == {"ok"}


@pytest.mark.parametrize("pixels", [np.zeros((90, 4, 4, 3), np.uint8), noise(90, channels=1)])
def test_images_of_one_colour_and_grey_ones_are_no_stumbling_block(pixels) -> None:
    found = findings(in_turn(90, "train", "val", "test"), pixels)
    assert {finding.severity for finding in found.values()} == {"ok"}


def test_so_few_images_are_not_compared() -> None:
    found = [answer.finding for answer in shift.check(examined([0, 1, 0], ["train", "val", "test"]))]
    assert [finding.severity for finding in found] == ["ok"] * 3
    assert "fewer than 10 images" in found[0].message


def test_the_same_images_give_the_same_figures() -> None:
    pixels, groups = slides(12, 10, np.random.default_rng(0))
    splits = np.repeat(["train"] * 6 + ["val"] * 3 + ["test"] * 3, 10).tolist()
    assert findings(splits, pixels, groups) == findings(splits, pixels, groups)
