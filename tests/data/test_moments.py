"""Sums of levels are exact, whatever the images."""

from __future__ import annotations

import numpy as np
import pytest

from histoflow.data.moments import mean_and_std, of_each, sums_of


@pytest.mark.parametrize("shape", [(3, 5, 7, 3), (1, 1, 1, 1), (2, 600, 9, 3), (40, 64, 64, 4), (0, 8, 8, 3)])
@pytest.mark.parametrize("level", [None, 255])
def test_sums_of_each_image_are_those_of_whole_numbers(shape: tuple[int, ...], level: int | None) -> None:
    some = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images = some if level is None else np.full(shape, level, np.uint8)
    found, exact = of_each(images), images.astype(np.int64)
    assert np.array_equal(found.totals, exact.sum(axis=(1, 2)))
    assert np.array_equal(found.squares, (exact**2).sum(axis=(1, 2)))


def test_sums_of_shards_give_their_mean_and_deviation() -> None:
    shards = [np.random.default_rng(place).integers(0, 256, (9, 20, 30, 3), np.uint8) for place in range(2)]
    mean, std = mean_and_std(sums_of(shards, 3))
    pixels = np.concatenate(shards) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), rtol=1e-9)
