"""The audit's figures agree with their definitions, and their intervals with what chance does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtrit

from histoflow.data.audit.statistics import accuracy, auc, balanced_accuracy, codes_of, student


def test_an_area_is_the_share_of_pairs_in_order_ties_counting_half() -> None:
    chance = np.random.default_rng(0)
    scores, positive = chance.integers(0, 6, 60).astype(float), chance.random(60) < 0.3
    pairs = np.sign(scores[positive][:, None] - scores[~positive][None, :])
    found = auc(scores, positive, np.arange(60))
    assert found is not None
    assert found.value == pytest.approx(((pairs + 1) / 2).mean())


def test_scores_of_several_models_are_compared_within_each() -> None:
    """Each model orders its own images rightly, on a scale of its own."""
    scores = np.array([0.0, 1.0, 10.0, 11.0])
    positive = np.array([False, True, False, True])
    apart = auc(scores, positive, np.arange(4), folds=np.array([0, 0, 1, 1]))
    assert apart is not None
    assert apart.value == 1.0
    assert auc(scores, positive, np.arange(4)).value == 0.75


def test_where_a_side_is_empty_there_is_no_area() -> None:
    assert auc(np.arange(4.0), np.zeros(4, bool), np.arange(4)) is None


@pytest.mark.parametrize("grouped", [False, True])
def test_19_of_20_intervals_hold_the_truth(grouped: bool) -> None:
    chance, held = np.random.default_rng(1), 0
    for _ in range(200):
        groups = np.repeat(np.arange(40), 5) if grouped else np.arange(200)
        positive = (groups % 2 == 0) if grouped else np.arange(200) % 2 == 0
        scores = chance.normal(size=200) + (chance.normal(size=40)[groups] if grouped else 0)
        found = auc(scores, positive, groups)
        assert found is not None
        held += found.low <= 0.5 <= found.high
    assert 178 <= held <= 200


@pytest.mark.parametrize("slides", [2, 3, 5, 10])
def test_few_groups_widen_intervals_by_as_much_as_it_takes(slides: int) -> None:
    chance, held = np.random.default_rng(2), 0
    groups = np.repeat(np.arange(slides), 40)
    for _ in range(300):
        share = np.clip(chance.normal(0.6, 0.1, slides), 0, 1)
        found = accuracy(chance.random(len(groups)) < share[groups], groups)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.6 <= found.high
    assert held >= 273  # 91 %


def test_of_one_group_there_is_no_interval() -> None:
    labels, one = np.arange(40) % 2, np.zeros(40, np.int64)
    for found in (
        accuracy(labels == 0, one),
        balanced_accuracy(labels == 0, labels, one),
        balanced_accuracy(labels == 0, labels, labels),
        auc(labels * 1.0, labels == 1, one),
        auc(labels * 1.0, labels == 1, np.where(labels == 1, 0, np.arange(40))),
    ):
        assert found is not None
        assert (found.low, found.high, found.surely_above(0.0)) == (None, None, False)
        assert str(found) == f"{found.value:.2f}"


@pytest.mark.parametrize("freedom", [1, 5, 10, 11, 20, 200])
def test_the_quantile_is_that_of_students_t(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stdtrit(freedom, 0.975), abs=0.003)


def test_a_perfect_figure_on_few_images_is_no_certainty() -> None:
    positive = np.arange(10) % 2 == 0
    area = auc(positive * 1.0, positive, np.arange(10))
    assert area is not None
    assert (area.value, area.high) == (1.0, 1.0)
    assert area.low < 0.9
    right = np.ones(10, bool)
    assert accuracy(right, np.arange(10)).low < 0.9
    assert balanced_accuracy(right, np.arange(10) % 2, np.arange(10)).low < 0.9


def test_a_balanced_accuracy_is_the_mean_over_the_classes_that_occur() -> None:
    labels = np.array([0] * 90 + [2] * 10)
    right = labels == 0
    assert balanced_accuracy(right, labels, np.arange(100)).value == 0.5
    assert accuracy(right, np.arange(100)).value == 0.9


def test_images_without_groups_are_each_their_own() -> None:
    assert codes_of(None, 3).tolist() == [0, 1, 2]
    assert codes_of(["b", "a", "b"], 3).tolist() == [1, 0, 1]
