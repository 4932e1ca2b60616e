"""How far distributions lie apart, and how far by chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from histoflow.evaluation import distributions
from histoflow.evaluation.distributions import Bands, bins_of, distance, edges_of, limit_for, places


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.bincount(places(values, edges), minlength=bins_of(edges))


def test_the_distance_is_that_of_scipy() -> None:
    chance = np.random.default_rng(0)
    first, second = chance.integers(0, 5, (2, 4, 9))
    expected = [jensenshannon(one, other, base=2) for one, other in zip(first, second, strict=True)]
    assert distance(first, second) == pytest.approx(expected)
    assert distance(np.array([3, 0]), np.array([0, 1])) == 1
    assert distance(np.array([3, 1]), np.array([6, 2])) == pytest.approx(0, abs=1e-7)


def test_values_lie_between_deciles_and_equal_ones_in_a_bin_of_their_own() -> None:
    values = np.random.default_rng(0).random(1000)
    edges = edges_of(values)
    assert len(edges) == 9
    assert counted(values, edges)[::2].tolist() == [100] * 10
    constant = edges_of(np.full(50, 0.25))
    assert constant.tolist() == [0.25]
    assert places(np.array([0.2, 0.25, 0.3]), constant).tolist() == [0, 1, 2]


def slides(chance: np.random.Generator, count: int, each: int, spread: float) -> np.ndarray:
    """Four figures of so many images of so many slides, which differ from one to the next."""
    means = np.repeat(chance.normal(0, spread, (count, 4)), each, axis=0)
    return means + chance.normal(0, 1, (count * each, 4))


def bands_of(images: np.ndarray, groups: np.ndarray | None) -> tuple[list[np.ndarray], Bands]:
    edges = [edges_of(values) for values in images.T]
    columns = [places(values, one) for values, one in zip(images.T, edges, strict=True)]
    return edges, distributions.bands(columns, [bins_of(one) for one in edges], groups, seed=1)


def leaves(known: np.ndarray, groups: np.ndarray | None, new: np.ndarray) -> bool:
    edges, bands = bands_of(known, groups)
    return any(
        distance(counted(before, one), counted(now, one)) > limit_for(len(now), bands.sizes, limits)
        for before, now, one, limits in zip(known.T, new.T, edges, bands.limits, strict=True)
    )


@pytest.mark.parametrize(("each", "spread", "fresh"), [(1, 0.0, 100), (10, 0.6, 12)])
def test_sets_of_the_same_kind_stay_inside_and_a_shift_does_not(each: int, spread: float, fresh: int) -> None:
    chance = np.random.default_rng(3)
    groups = None if each == 1 else np.repeat(np.arange(400 // each), each)
    draws = [slides(chance, 400 // each, each, spread) for _ in range(20)]
    fresh_sets = [slides(chance, fresh, each, spread) for _ in draws]
    false_alarms = sum(leaves(known, groups, new) for known, new in zip(draws, fresh_sets, strict=True))
    assert false_alarms <= 2  # of 20 at 1 in 100, three or more come up in about 1 of 1,000
    assert all(leaves(known, groups, new + 1.5) for known, new in zip(draws[:3], fresh_sets[:3], strict=True))


def test_images_of_a_slide_that_are_alike_widen_the_band() -> None:
    images = slides(np.random.default_rng(0), 20, 20, 1.0)
    _, alone = bands_of(images, None)
    _, whole = bands_of(images, np.repeat(np.arange(20), 20))
    assert (whole.limits[:, -1] > 1.5 * alone.limits[:, -1]).all()


def test_few_groups_widen_the_band_beyond_what_their_draws_show() -> None:
    images = slides(np.random.default_rng(0), 20, 20, 0.5)
    _, of_few = bands_of(images[:120], np.repeat(np.arange(6), 20))
    _, of_more = bands_of(images, np.repeat(np.arange(20), 20))
    at = {size: (of_few.limits[:, place], of_more.limits[:, of_more.sizes.index(size)])
          for place, size in enumerate(of_few.sizes) if size in of_more.sizes}  # fmt: skip
    assert list(at) == [30, 100]
    assert all((few > more).all() for few, more in at.values())
    assert (of_few.limits < 1).all()


def test_the_band_narrows_as_images_become_more() -> None:
    _, bands = bands_of(slides(np.random.default_rng(0), 500, 1, 0), None)
    assert bands.sizes == (30, 100, 300, 500)
    assert (np.diff(bands.limits, axis=1) < 0).all()
    limits = bands.limits[0]
    assert [limit_for(size, bands.sizes, limits) for size in bands.sizes] == pytest.approx(limits)
    assert limits[1] > limit_for(200, bands.sizes, limits) > limits[2]
    assert limit_for(9999, bands.sizes, limits) == pytest.approx(limits[-1])


def test_what_validation_never_showed_is_not_impossible() -> None:
    always = [np.zeros(100, np.int64)]
    bands = distributions.bands(always, [2], None, seed=1)
    limit = limit_for(1000, bands.sizes, bands.limits[0])
    known = np.array([100, 0])
    assert distance(known, np.array([990, 10])) < limit < distance(known, np.array([900, 100]))


def test_the_same_seed_draws_the_same_band() -> None:
    images = slides(np.random.default_rng(0), 60, 1, 0)
    assert (bands_of(images, None)[1].limits == bands_of(images, None)[1].limits).all()
