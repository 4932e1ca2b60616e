"""How images look, in a few numbers."""

from __future__ import annotations

import numpy as np
import pytest

from histoflow.data.appearance import measured, measures


def of(*images: list[list[list[int]]]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in measured(np.array(images, np.uint8)).items()}


def test_colours_are_told_from_nothing_to_one() -> None:
    white, red = [[[255] * 3] * 8] * 8, [[[255, 0, 0]] * 8] * 8
    half = [[[0, 0, 0]] * 8] * 4 + [[[255] * 3] * 8] * 4
    found = of(white, red, half)
    assert found["red"] == pytest.approx([1, 1, 0.5])
    assert found["blue"] == pytest.approx([1, 0, 0.5])
    assert found["brightness"] == pytest.approx([1, 0.299, 0.5])
    assert found["contrast"] == pytest.approx([0, 0, 0.5])
    assert found["saturation"] == pytest.approx([0, 1, 0])
    assert found["sharpness"][0] == 0
    assert found["sharpness"][2] > 5


def test_each_image_is_measured_alike_whatever_stands_beside_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 70, 40, 3), np.uint8)
    together, alone = measured(images), measured(images[31:32])
    for name in measures(3):
        assert together[name].shape == (50,)
        assert alone[name][0] == pytest.approx(together[name][31], rel=1e-6)


def test_images_of_one_channel_have_no_colour() -> None:
    assert list(of([[[10], [20]], [[30], [40]]])) == ["brightness", "contrast", "sharpness"]
    assert measured(np.empty((0, 8, 8, 3), np.uint8)).keys() == set(measures(3))
