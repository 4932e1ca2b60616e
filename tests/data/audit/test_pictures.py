"""Images that show nothing are found, each under one name."""

from __future__ import annotations

import numpy as np
import pytest

from histoflow.data.audit import pictures
from painted_patches import by_check, examined, patches

GLASS = np.rint(np.random.default_rng(0).normal(243, 2, (1, 64, 64, 3))).astype(np.uint8)
EMPTY = {
    "blank": GLASS,
    "black": np.random.default_rng(0).integers(0, 4, (1, 64, 64, 3), np.uint8),
    "constant": np.full((1, 64, 64, 3), (120, 40, 200), np.uint8),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_image_that_shows_nothing_is_found_under_one_name(name: str):
    images = np.concatenate([patches(64)[2:9], EMPTY[name]])
    found = by_check(list(pictures.check(examined(images))))
    assert found[name].drop == (7,)
    assert found[name].finding.severity == "warning"
    assert found[name].finding.setting == name
    assert found[name].finding.examples == ("7.png",)
    for other in found.keys() - {name}:
        assert found[other].finding.severity == "ok"
        assert found[other].drop == ()


@pytest.mark.parametrize(("level", "name"), [(0, "black"), (255, "blank"), (128, "constant")])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_one_level_is_counted_once(level: int, name: str, channels: int):
    image = np.full((1, 28, 28, channels), level, np.uint8)
    found = by_check(list(pictures.check(examined(image))))
    assert [check for check, answer in found.items() if answer.drop] == [name]


def test_a_class_that_shows_glass_by_nature_has_no_blank_images():
    dusty = GLASS.copy()
    dusty[0, 30:34, 30:34] = 150
    images = np.concatenate([GLASS, dusty, dusty[:, ::-1], patches(64)[2:9], GLASS])
    found = by_check(list(pictures.check(examined(images, labels=[1] * 3 + [7] * 8))))
    assert found["blank"].drop == (10,)
    assert "1 of a class that shows background by nature" in found["blank"].finding.message


def test_glass_with_one_nucleus_is_not_blank():
    image = GLASS.copy()
    image[0, 30:34, 30:34] = (90, 60, 140)
    assert by_check(list(pictures.check(examined(image))))["blank"].finding.severity == "ok"


def test_painted_tissue_is_never_empty():
    images = patches(64)
    labels = np.arange(len(images)) % 9
    assert all(answer.finding.severity == "ok" for answer in pictures.check(examined(images, labels=labels)))
