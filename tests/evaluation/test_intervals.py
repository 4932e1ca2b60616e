"""Intervals around figures: what they are computed from, how wide they are, and what is said without one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from histoflow import Metric, Params, PluginError, Score
from histoflow.evaluation import score_all
from histoflow.evaluation.intervals import FEWER_DRAWS, with_intervals
from histoflow.evaluation.resampling import resamples
from histoflow_plugins.metrics import METRICS

ALL = {metric.name: (metric, metric.params()) for metric in METRICS if "multiclass" in metric.tasks}


def split(images, classes, seed=0, strength=1.5):
    chance = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    raw = chance.normal(size=(images, classes))
    raw[np.arange(images), labels] += strength
    odds = np.exp(raw)
    return odds / odds.sum(axis=1, keepdims=True), labels


def found(metrics, probabilities, labels, groups=None, **more):
    scores = score_all(metrics, probabilities, labels)
    asked = {"seed": 3, "draws": 500, **more}
    return with_intervals(metrics, scores, probabilities, labels, groups, **asked)


def metric_of(score, **more):
    probe = Metric(name="probe", summary="", params=Params, score=score, **more)
    return {"probe": (probe, Params())}


def share_right(params, probabilities, labels):
    return Score(value=float((probabilities.argmax(axis=1) == labels).mean()))


# ── What they are ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("groups", [None, np.array([f"slide {image % 20}" for image in range(120)])])
def test_an_interval_holds_95_of_100_of_the_figures_of_the_resamples(groups):
    probabilities, labels = split(120, 3)
    scores, told = found(ALL, probabilities, labels, groups, draws=300)
    weights = np.concatenate(list(resamples(labels, groups, 300, 3)))
    for name, (metric, params) in ALL.items():
        drawn = [
            metric.score(params, probabilities[chosen], labels[chosen])
            for chosen in (np.repeat(np.arange(120), row.astype(int)) for row in weights)
        ]
        expected = np.quantile([one.value for one in drawn], (0.025, 0.975))
        assert scores[name].interval == pytest.approx(tuple(expected), abs=1e-12)
        of_last = np.quantile([one.per_class[2] for one in drawn], (0.025, 0.975))
        assert scores[name].per_class_intervals[2] == pytest.approx(tuple(of_last), abs=1e-12)
    assert told == {
        "method": "percentile bootstrap",
        "level": 0.95,
        "draws": 300,
        "by": "image" if groups is None else "group",
        "units": 120 if groups is None else 20,
        "fewer_draws": {},
    }


def test_the_figures_stay_and_intervals_are_the_same_every_time():
    probabilities, labels = split(200, 3)
    before = score_all(ALL, probabilities, labels)
    first, again, other = (found(ALL, probabilities, labels, seed=seed)[0] for seed in (3, 3, 4))
    assert first == again != other
    without = {
        name: replace(score, interval=None, per_class_intervals=None, interval_note="")
        for name, score in first.items()
    }
    assert without == before


def test_with_many_images_they_are_those_of_the_textbook():
    probabilities, labels = split(3000, 2)
    scores, _ = found(ALL, probabilities, labels, draws=2000)
    low, high = scores["accuracy"].interval
    accuracy = scores["accuracy"].value
    expected = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 3000)
    assert high - low == pytest.approx(expected, rel=0.06)


def delong(scores, positive):
    """The standard error of the area under the ROC curve, from how each image is placed among the others."""
    inside, outside = scores[positive], scores[~positive]
    wins = (inside[:, None] > outside).astype(float) + 0.5 * (inside[:, None] == outside)
    placed = wins.mean(axis=1), wins.mean(axis=0)
    return np.sqrt(sum(place.var(ddof=1) / len(place) for place in placed))


def test_the_interval_of_the_auc_is_as_wide_as_by_delong():
    probabilities, labels = split(1200, 2, strength=0.8)
    probabilities = probabilities.round(2)  # with ties
    score = found({"roc_auc": ALL["roc_auc"]}, probabilities, labels, draws=2000)[0]["roc_auc"]
    low, high = score.interval
    error = delong(probabilities[:, 1], labels == 1)
    assert high - low == pytest.approx(2 * norm.ppf(0.975) * error, rel=0.06)
    assert (low + high) / 2 == pytest.approx(score.value, abs=0.15 * error)


def test_images_that_come_in_like_groups_say_less_than_as_many_of_their_own():
    chance = np.random.default_rng(5)
    groups = np.repeat([f"slide {number}" for number in range(40)], 25)
    labels = np.arange(1000) % 2
    right = chance.random(1000) < np.repeat(chance.beta(2, 1, 40), 25)
    probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
    widths = [np.ptp(found(ALL, probabilities, labels, by)[0]["accuracy"].interval) for by in (groups, None)]
    assert widths[0] > 2 * widths[1]


# ── Metrics of others ───────────────────────────────────────────────────────────────────────────


def test_a_metric_that_knows_no_resamples_is_scored_on_fewer_and_that_is_told():
    probabilities, labels = split(300, 3)
    metrics = {**metric_of(share_right), "accuracy": ALL["accuracy"]}
    scores, told = found(metrics, probabilities, labels)
    assert told["fewer_draws"] == {"probe": FEWER_DRAWS}
    same_draws = found({"accuracy": ALL["accuracy"]}, probabilities, labels, draws=FEWER_DRAWS)[0]
    assert scores["probe"].interval == pytest.approx(same_draws["accuracy"].interval)
    assert scores["probe"].per_class_intervals is None
    assert found(metrics, probabilities, labels, draws=50)[1]["fewer_draws"] == {}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda weights: np.ones(3), r"must return an array of 500 figures, or 500 × 4.*Got shape \(3,\)"),
        (lambda weights: np.ones((len(weights), 3)), r"500 × 4 with those of the classes.*\(500, 3\)"),
        (lambda weights: np.full(len(weights), np.inf), "with infinite ones"),
    ],
)
def test_a_metric_that_answers_otherwise_than_agreed_is_named(answer, message):
    metrics = metric_of(share_right, resampled=lambda _params, _given, _labels, weights: answer(weights))
    with pytest.raises(PluginError, match=f"The resampled of metric 'probe'.*{message}"):
        found(metrics, *split(30, 3))


def test_a_metric_that_fails_on_a_resample_keeps_its_figure_and_the_failure_is_told():
    def strict(params, probabilities, labels):
        if len(np.unique(labels)) < 4:
            raise ValueError("a class is missing")
        return Score(value=0.5)

    probabilities, labels = split(43, 4)
    labels[labels == 3] = 0
    labels[0] = 3  # of its own, and so in few resamples
    score = found(metric_of(strict), probabilities, labels)[0]["probe"]
    assert (score.value, score.interval) == (0.5, None)
    assert score.interval_note == (
        "no interval: the metric failed on a resample with ValueError: a class is missing"
    )


def test_figures_of_resamples_that_are_not_finite_make_no_interval():
    def unbounded(params, probabilities, labels):
        return Score(value=1.0 if len(np.unique(probabilities[:, 0])) == len(labels) else float("inf"))

    score = found(metric_of(unbounded), *split(60, 3))[0]["probe"]
    assert (score.value, score.interval) == (1.0, None)
    assert score.interval_note.endswith("ValueError: its figures must be finite, or None")


# ── Without an interval, or with a poor one ─────────────────────────────────────────────────────


def test_an_undefined_figure_has_no_interval():
    probabilities, labels = split(60, 3)
    score = found(ALL, probabilities, np.where(labels == 2, 0, labels))[0]["roc_auc"]
    assert (score.value, score.interval) == (None, None)
    assert score.per_class_intervals[2] is None
    assert score.per_class_intervals[0] is not None
    assert score.interval_note == ""


def test_it_tells_in_how_many_resamples_a_figure_is_undefined():
    probabilities, labels = split(60, 2)
    labels[:] = 0
    labels[:2] = 1, 1
    probabilities[:2] = (0.3, 0.7), (0.6, 0.4)
    slides = np.array([f"slide {image % 12}" for image in range(60)])
    score = found({"roc_auc": ALL["roc_auc"]}, probabilities, labels, slides)[0]["roc_auc"]
    weights = np.concatenate(list(resamples(labels, slides, 500, 3)))
    missing = int((weights[:, :2].sum(axis=1) == 0).sum())
    assert 0 < missing < 250
    assert score.interval is not None
    assert score.interval_note == (
        f"undefined in resamples, which its interval leaves out: "
        f"overall in {missing}, class 0 in {missing} and class 1 in {missing} of 500"
    )


def test_from_fewer_than_half_of_the_draws_there_is_no_interval():
    def score(params, probabilities, labels):
        return Score(value=0.5)

    def rarely(params, probabilities, labels, weights):
        return np.where(weights[:, 0] > 1, weights[:, 1], np.nan)

    probe = found(metric_of(score, resampled=rarely), *split(60, 3))[0]["probe"]
    assert probe.interval is None
    assert probe.interval_note == "no interval for overall: undefined in more than half of the resamples"


def test_a_figure_that_never_varies_has_no_interval_of_no_width():
    probabilities, labels = split(60, 3, strength=50)
    score = found({"recall": ALL["recall"]}, probabilities, labels)[0]["recall"]
    assert (score.value, score.interval, score.per_class_intervals) == (1.0, None, (None, None, None))
    assert score.interval_note == (
        "no interval for overall, class 0, class 1 and class 2: "
        "the same in all resamples, which says nothing of chance"
    )


def test_of_a_single_group_there_is_nothing_to_draw():
    scores, told = found(ALL, *split(60, 3), np.full(60, "slide 7"))
    assert {score.interval for score in scores.values()} == {None}
    assert (told["by"], told["units"]) == ("group", 1)


def test_of_several_labels_each_figure_has_its_interval():
    chance = np.random.default_rng(2)
    labels = (chance.random((300, 3)) < (0.5, 0.3, 0.2)).astype(np.int64)
    probabilities = 0.6 * chance.random(labels.shape) + 0.4 * labels
    several = {metric.name: (metric, metric.params()) for metric in METRICS if "multilabel" in metric.tasks}
    scores, _ = found(several, probabilities, labels)
    for score in scores.values():
        assert score.interval[0] < score.value < score.interval[1]
    assert scores["exact_match"].per_class_intervals is None
    assert all(scores["f1"].per_class_intervals)


def test_intervals_of_many_images_take_little_memory():
    import tracemalloc

    probabilities, labels = split(20_000, 2)
    tracemalloc.start()
    found(ALL, probabilities, labels, draws=200)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60e6, "all 200 resamples at once take 113 MB"


def test_a_block_more_or_less_changes_nothing(monkeypatch):
    """Sums of fractions aside, which a matrix product rounds as the block's size has it."""
    probabilities, labels = split(90, 3)
    exact = {name: ALL[name] for name in ALL if name not in ("brier", "log_loss", "ece")}
    ask = partial(found, exact, probabilities, labels)
    whole = ask()
    monkeypatch.setattr("histoflow.evaluation.resampling.CELLS", 90 * 7)
    assert ask() == whole
