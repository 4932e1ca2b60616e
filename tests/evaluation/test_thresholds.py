"""Operating thresholds: each rule against every threshold there is, ties, and what cannot be chosen."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from histoflow._crosschecks import cross_check
from histoflow.errors import ExperimentError
from histoflow.evaluation.thresholds import choose_threshold, rule_in_words
from histoflow.experiment import Evaluation
from histoflow.registry import installed
from support import small_experiment

CHANCE = np.random.default_rng(8)
POSITIVE = CHANCE.random(300) < 0.3
SCORES = np.round(np.clip(0.35 + 0.3 * POSITIVE + 0.2 * CHANCE.normal(size=300), 0, 1), 2)
EVERY = np.append(np.unique(SCORES), 1.01)


def chosen(rule, scores=SCORES, positive=POSITIVE, **more):
    return choose_threshold(
        np.asarray(scores, float), np.asarray(positive), Evaluation(threshold=rule, **more)
    )


def rates(threshold, scores=SCORES, positive=POSITIVE):
    told = scores >= threshold
    return told[positive].mean(), 1 - told[~positive].mean()


def test_the_scores_have_ties_across_the_classes():
    assert set(SCORES[POSITIVE]) & set(SCORES[~POSITIVE])


def test_youden_is_the_best_of_all_sums():
    threshold, note = chosen("youden")
    assert sum(rates(threshold)) == pytest.approx(max(sum(rates(one)) for one in EVERY))
    false, true, _ = roc_curve(POSITIVE, SCORES)
    assert sum(rates(threshold)) - 1 == pytest.approx((true - false).max())
    assert note == ""


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95])
def test_sensitivity_takes_the_highest_threshold_that_reaches_it(target):
    threshold, _ = chosen("sensitivity", target=target)
    assert rates(threshold)[0] >= target
    assert all(rates(one)[0] < target for one in EVERY if one > threshold)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95])
def test_specificity_takes_the_lowest_threshold_that_reaches_it(target):
    threshold, _ = chosen("specificity", target=target)
    assert rates(threshold)[1] >= target
    assert all(rates(one)[1] < target for one in EVERY if one < threshold)


@pytest.mark.parametrize("miss_cost", [0.2, 1, 10])
def test_cost_is_the_least_of_all(miss_cost):
    def cost(threshold):
        told = threshold <= SCORES
        return miss_cost * (POSITIVE & ~told).sum() + (~POSITIVE & told).sum()

    threshold, _ = chosen("cost", miss_cost=miss_cost)
    assert cost(threshold) == min(cost(one) for one in EVERY)


def test_a_share_that_is_reached_exactly_is_reached():
    scores, positive = np.arange(50) / 50, np.repeat([False, True], 25)
    assert 0.56 * 25 > 14  # as computers reckon
    for target, threshold in ((0.56, 0.72), (0.92, 0.54), (0.99, 0.5)):
        assert chosen("sensitivity", scores, positive, target=target)[0] == threshold


def test_images_of_one_probability_are_told_alike():
    scores, positive = [0.2, 0.6, 0.6, 0.6, 0.9], np.array([False, True, False, True, True])
    assert chosen("sensitivity", scores, positive, target=0.5)[0] == 0.6


def test_of_equals_it_takes_the_one_nearest_to_one_half():
    scores, positive = [0.1, 0.45, 0.8, 0.95], np.array([False, True, False, True])
    assert chosen("youden", scores, positive)[0] == 0.45


@pytest.mark.parametrize("rule", ["youden", "sensitivity", "specificity", "cost"])
def test_without_positives_or_negatives_it_is_one_half_and_says_so(rule):
    assert chosen(rule, [0.2, 0.9], [False, False]) == (0.5, "no validation image shows it")
    assert chosen(rule, [0.2, 0.9], [True, True]) == (0.5, "no validation image lacks it")


def test_a_threshold_that_tells_nothing_says_so():
    threshold, note = chosen("specificity", [0.4] * 6, [True, False] * 3)
    assert threshold > 0.4
    assert note == "no validation image reaches it"
    assert chosen("sensitivity", [0.4] * 6, [True, False] * 3) == (0.4, "")


def test_rules_are_told_with_their_numbers():
    assert "at least 0.9 on" in rule_in_words(Evaluation(threshold="sensitivity", target=0.9))
    assert "25 false alarms" in rule_in_words(Evaluation(threshold="cost", miss_cost=25))


def test_a_threshold_is_refused_where_there_are_more_than_two_classes():
    tissue = {"name": "tissue", "classes": 9, "size": 32, "images": 180, "slides": 15}
    with pytest.raises(ExperimentError, match=r"evaluation\.threshold: must be likeliest .* Got youden"):
        small_experiment(dataset=tissue, evaluation={"threshold": "youden"})
    assert cross_check(small_experiment(evaluation={"threshold": "youden"}), installed()) == []
