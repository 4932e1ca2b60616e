"""What is drawn for the bootstrap, how often, and in which strata."""

import numpy as np
import pytest

from histoflow import DataError
from histoflow.evaluation.resampling import CELLS, resamples, units_of

LABELS = np.repeat([0, 1, 2], [50, 30, 20])


def drawn(labels, groups, draws=50, seed=1, block=None):
    return np.concatenate(list(resamples(labels, groups, draws, seed, block)))


def test_each_resample_holds_as_many_images_of_each_class_as_the_split():
    weights = drawn(LABELS, None)
    assert weights.dtype == np.float32
    assert weights.shape == (50, 100)
    assert (weights == np.round(weights)).all()
    for label, images in enumerate((50, 30, 20)):
        assert (weights[:, label == LABELS].sum(axis=1) == images).all()


def test_the_draws_follow_from_the_seed_alone_whatever_the_size_of_the_blocks():
    whole = drawn(LABELS, None)
    assert np.array_equal(whole, drawn(LABELS, None, block=7))
    assert np.array_equal(whole[:10], drawn(LABELS, None, draws=10))
    assert not np.array_equal(whole, drawn(LABELS, None, seed=2))


def test_every_image_is_drawn_as_often_as_every_other():
    mean = drawn(LABELS, None, draws=4000).mean(axis=0)
    assert mean == pytest.approx(1, abs=5 / np.sqrt(4000))


def test_groups_are_drawn_whole():
    groups = np.array([f"slide {image % 12}" for image in range(100)])
    weights = drawn(LABELS, groups)
    for group in np.unique(groups):
        of_group = weights[:, groups == group]
        assert (of_group == of_group[:, :1]).all()
    first_of_each = [int(np.argmax(groups == group)) for group in np.unique(groups)]
    assert (weights[:, first_of_each].sum(axis=1) == 12).all()


def test_a_group_stands_in_the_stratum_of_most_of_its_images_in_a_tie_of_the_first_class():
    groups = np.repeat([f"{name:02}" for name in range(10)], 4)
    labels = np.array([[0, 0, 0, 1]] * 4 + [[0, 1, 1, 0]] + [[1, 1, 1, 0]] * 5).ravel()
    units = units_of(labels, groups)
    assert units.grouped
    assert units.strata.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("sizes", "strata"),
    [
        ((9, 6, 5), 3),
        ((9, 4, 3), 2),  # the two small ones are drawn together
        ((9, 6, 1), 2),  # the one joins the smallest of the others
        ((2, 1, 1), 1),
    ],
)
def test_strata_too_small_to_vary_are_drawn_together(sizes, strata):
    labels = np.repeat([0, 1, 2], sizes)
    assert len(np.unique(units_of(labels, None).strata)) == strata
    slides = np.array([f"slide {image}" for image in range(len(labels))])
    assert len(np.unique(units_of(labels, slides).strata)) == strata


def test_a_single_slide_of_a_class_is_not_in_every_resample():
    """Drawn by itself it would be in each exactly once, and its recall would look certain."""
    labels, slides = np.repeat([0, 1], [10, 1]), np.array([f"slide {number}" for number in range(11)])
    assert set(drawn(labels, slides, draws=200)[:, 10]) >= {0, 1, 2}


def test_of_several_labels_each_combination_is_a_stratum():
    labels = np.array([[1, 0], [1, 1], [0, 0]]).repeat([8, 6, 7], axis=0)
    weights = drawn(labels, None)
    for rows in (slice(0, 8), slice(8, 14), slice(14, 21)):
        assert (weights[:, rows].sum(axis=1) == rows.stop - rows.start).all()


def test_blocks_are_no_larger_than_what_stays_near_the_processor():
    blocks = [len(block) for block in resamples(np.zeros(CELLS // 8, np.int64), None, 20, 0)]
    assert blocks == [8, 8, 4]
    (one,) = resamples(np.zeros(10, np.int64), None, 20, 0)
    assert len(one) == 20


def test_groups_of_another_number_of_images_are_refused():
    with pytest.raises(DataError, match="one group for each of 100 images. Got 3"):
        units_of(LABELS, np.array(["a", "b", "c"]))
