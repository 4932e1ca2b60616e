"""Two models on the same images: intervals of the difference, the verdict, and McNemar's test."""

import numpy as np
import pytest
from scipy import stats

from histoflow import DataError, Metric, Params, Score
from histoflow.evaluation import paired, score_all
from histoflow.evaluation.comparison import compare
from histoflow.evaluation.mcnemar import mcnemar, p_value
from histoflow.evaluation.resampling import units_of
from histoflow.registry import installed

CLASSES, IMAGES = 3, 600
LABELS = np.arange(IMAGES) % CLASSES
SEVERAL = (np.random.default_rng(5).random((IMAGES, CLASSES)) < 0.4).astype(np.int64)
FIRST = np.arange(IMAGES) < 60


def chosen(*names):
    return {name: (metric, metric.params()) for name in names for metric in [installed().get(Metric, name)]}


def right_on(right, labels=LABELS):
    """Probabilities of a model that is right on these images and takes the next class on the others."""
    told = np.where(right, labels, (labels + 1) % CLASSES)
    return 0.8 * np.eye(CLASSES)[told] + 0.2 / CLASSES


def random_model(seed, labels=LABELS):
    rng = np.random.default_rng(seed)
    if labels.ndim == 2:
        return 0.7 * rng.random(labels.shape) + 0.3 * labels
    odds = rng.random((IMAGES, CLASSES)) + 0.8 * np.eye(CLASSES)[labels]
    return odds / odds.sum(axis=1, keepdims=True)


def compared(a, b, labels=LABELS, metrics=("accuracy", "roc_auc"), **options):
    return compare(a, b, labels, metrics=chosen(*metrics), main=metrics[0], **{"draws": 400, **options})


# ── The verdict ─────────────────────────────────────────────────────────────────────────────────


def test_a_model_that_is_right_more_often_is_better_and_one_that_is_less_often_is_worse():
    good, poor = right_on(np.arange(IMAGES) >= 60), right_on(np.arange(IMAGES) >= 120)
    assert compared(poor, good).verdict == "better"
    assert compared(good, poor).verdict == "worse"
    main = compared(poor, good).metrics["accuracy"]
    assert (main.a, main.b, main.difference) == pytest.approx((0.8, 0.9, 0.1))
    # 60 of 600 images that change for the better: a standard error of √(0.1 × 0.9 / 600) = 0.0122.
    assert (main.low, main.high) == pytest.approx((0.076, 0.124), abs=0.005)


def test_as_many_changes_for_the_worse_as_for_the_better_show_no_difference():
    a, b = right_on(~FIRST), right_on(~FIRST[::-1])
    found = compared(a, b)
    assert found.verdict == "no difference shown"
    assert found.metrics["accuracy"].difference == 0
    assert found.metrics["accuracy"].low < 0 < found.metrics["accuracy"].high


def test_a_model_beside_itself_shows_no_difference_and_no_interval():
    found = compared(random_model(1), random_model(1))
    everything = [*found.metrics.values(), *found.calibration.values(), *found.recall]
    assert {(one.difference, one.low, one.high) for one in everything} == {(0, None, None)}
    assert {one.note for one in everything} == {
        "no interval: the difference is the same in all resamples, which says nothing of chance"
    }
    assert found.verdict == "no difference shown"
    assert (found.mcnemar.discordant, found.mcnemar.p) == (0, 1)


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one label", "several"])
def test_changing_places_turns_every_difference_round(labels):
    a, b = random_model(1, labels), random_model(2, labels)
    one, other = compared(a, b, labels), compared(b, a, labels)
    for kind in ("metrics", "calibration"):
        for name, found in getattr(one, kind).items():
            _assert_mirrored(found, getattr(other, kind)[name])
    for found, mirrored in zip(one.recall, other.recall, strict=True):
        _assert_mirrored(found, mirrored)
    assert (one.mcnemar.only_a, one.mcnemar.p) == (other.mcnemar.only_b, other.mcnemar.p)


def _assert_mirrored(found, mirrored):
    assert (found.a, found.b) == (mirrored.b, mirrored.a)
    figures = (mirrored.difference, mirrored.low, mirrored.high)
    assert (-found.difference, -found.high, -found.low) == pytest.approx(figures, abs=1e-12)
    turned = {"better": "worse", "worse": "better"}
    assert turned.get(found.verdict, found.verdict) == mirrored.verdict


def test_of_a_metric_in_which_less_is_better_the_lower_figure_is_better():
    def error(params, probabilities, labels):
        return Score(value=float((probabilities.argmax(axis=1) != labels).mean()))

    metric = Metric(name="error", summary="", params=Params, score=error, higher_is_better=False)
    good, poor = right_on(~FIRST), right_on(np.zeros(IMAGES, bool))
    found = compare(poor, good, LABELS, metrics={"error": (metric, Params())}, main="error", draws=100)
    assert found.metrics["error"].difference == pytest.approx(-0.9)
    assert found.verdict == "better"


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────


def test_one_group_that_changes_as_a_whole_proves_little():
    """The same 60 images change: all of two patients in twenty, or some of each."""
    in_one, spread = np.arange(IMAGES) // 30, np.random.default_rng(2).integers(0, 20, IMAGES)
    a, b = right_on(~FIRST), right_on(np.ones(IMAGES, bool))
    by_image, of_one, of_all = (compared(a, b, groups=groups) for groups in (None, in_one, spread))
    assert [found.verdict for found in (by_image, of_one, of_all)] == [
        "better",
        "no difference shown",
        "better",
    ]
    widths = [found.metrics["accuracy"].high - found.metrics["accuracy"].low for found in (by_image, of_one)]
    assert widths[1] > 3 * widths[0]
    assert (by_image.groups, of_one.groups) == (None, 20)


def test_of_too_few_groups_no_interval_is_told_and_so_no_verdict():
    a, b = right_on(~FIRST), right_on(np.ones(IMAGES, bool))
    found = compared(a, b, groups=np.arange(IMAGES) % 5)
    assert found.verdict == "no difference shown"
    assert found.metrics["accuracy"].difference == pytest.approx(0.1)
    assert found.metrics["accuracy"].low is None
    assert found.metrics["accuracy"].note == "no interval: 5 groups are too few, it takes 6"
    six = np.random.default_rng(2).integers(0, 6, IMAGES)
    assert compared(a, b, groups=six, draws=1000).verdict == "better"


def test_an_interval_that_would_reach_beyond_all_resamples_is_not_told():
    a, b = right_on(~FIRST), right_on(np.ones(IMAGES, bool))
    found = compared(a, b, groups=np.arange(IMAGES) % 6, draws=300)
    assert found.verdict == "no difference shown"
    assert "300 resamples are too few, it takes 4" in found.metrics["accuracy"].note


@pytest.mark.parametrize("groups", [6, 10, 30, 2000])
def test_intervals_reach_as_far_as_students_t_and_the_groups_missing_from_each_resample_ask(groups):
    units = units_of(np.zeros(groups, int), np.arange(groups))
    reach = stats.t.ppf(0.975, groups - 1) * np.sqrt(groups / (groups - 1))
    assert paired.tail_of(units, 0.95) == pytest.approx(stats.norm.cdf(-reach), rel=0.01)


def test_strata_cost_degrees_of_freedom():
    labels = np.repeat([0, 1], 6)
    reach = stats.t.ppf(0.975, 10) * np.sqrt(12 / 10)
    tail = paired.tail_of(units_of(labels, np.arange(12)), 0.95)
    assert tail == pytest.approx(stats.norm.cdf(-reach), rel=0.01)


# ── Classes with few images ─────────────────────────────────────────────────────────────────────


def of_a_rare_class(rare):
    """Forty images, the first of them of class 1, and two models: B recognises class 1, A never does.

    Both err on some of the images of class 0, too, each on its own.
    """
    labels = (np.arange(40) < rare).astype(int)
    place = np.arange(40) % 7
    told_a, told_b = (place == 6) & (labels == 0), (place == 5) | (labels == 1)
    return *(0.1 + 0.8 * np.eye(2)[told.astype(int)] for told in (told_a, told_b)), labels


@pytest.mark.parametrize("rare", [1, 2, 5])
@pytest.mark.parametrize("metric", ["recall", "balanced_accuracy", "f1", "roc_auc"])
def test_a_class_of_few_images_decides_nothing_however_many_there_are_of_others(metric, rare):
    a, b, labels = of_a_rare_class(rare)
    found = compared(a, b, labels, metrics=(metric,), draws=2000)
    assert found.metrics[metric].difference > 0
    assert found.verdict == "no difference shown"
    assert (
        found.metrics[metric].note == f"no interval: {rare} images that show class 1 are too few, it takes 6"
    )
    assert (found.recall[1].difference, found.recall[1].low) == (1, None)
    assert found.calibration["log_loss"].low is not None


def test_few_images_that_do_not_show_a_class_are_too_few_as_well():
    a, b, labels = of_a_rare_class(3)
    found = compared(a[:, ::-1], b[:, ::-1], 1 - labels, metrics=("roc_auc",), draws=2000)
    assert found.metrics["roc_auc"].low is None
    assert "too few" in found.recall[1].note


def test_groups_that_show_a_class_count_and_not_their_images():
    a, b, labels = of_a_rare_class(20)
    groups = np.where(labels == 1, np.arange(40) % 3, 3 + np.arange(40) % 10)
    found = compared(a, b, labels, metrics=("recall",), groups=groups, draws=2000)
    assert found.metrics["recall"].note == "no interval: 3 groups that show class 1 are too few, it takes 6"


def test_accuracy_in_which_all_images_count_alike_rests_on_all_of_them():
    a, b, labels = of_a_rare_class(5)
    found = compared(a, b, labels, metrics=("accuracy",), draws=2000)
    assert found.metrics["accuracy"].low is not None


def test_the_interval_of_a_rarer_class_reaches_further():
    units = units_of(np.arange(40) // 30, None)
    rare = paired.of_classes(units, np.eye(2, dtype=bool)[np.arange(40) // 30])[1]
    assert rare == paired.Support(10, "images that show class 1")
    reach = stats.t.ppf(0.975, 9) * np.sqrt(10 / 9)
    assert paired.tail_of(units, 0.95, rare) == pytest.approx(stats.norm.cdf(-reach), rel=0.01)


@pytest.mark.parametrize("metric", ["recall", "roc_auc"])
def test_models_that_guess_are_seldom_called_better_where_a_class_is_rare(metric):
    chance, labels = np.random.default_rng(0), (np.arange(40) < 3).astype(int)
    verdicts = []
    for seed in range(10):
        a, b = (np.column_stack((1 - told, told)) for told in chance.random((2, 40)))
        verdicts.append(compared(a, b, labels, metrics=(metric,), seed=seed).verdict)
    assert verdicts == ["no difference shown"] * 10


# ── Figures that are undefined ──────────────────────────────────────────────────────────────────


def test_what_is_undefined_has_no_difference_and_says_why():
    labels = np.where(LABELS == 2, 0, LABELS)
    found = compared(
        random_model(1, labels), random_model(2, labels), labels, metrics=("roc_auc", "accuracy")
    )
    assert found.metrics["roc_auc"].difference is None
    assert "class 2 has no images" in found.metrics["roc_auc"].note
    assert (found.recall[2].difference, found.recall[2].low) == (None, None)
    assert found.recall[2].note.startswith("class 2 has no images")
    assert found.recall[1].low is not None
    assert found.verdict == "no difference shown"


def test_a_metric_that_fails_on_resamples_leaves_the_others_their_intervals():
    def fussy(params, probabilities, labels):
        if (labels != LABELS).any():
            raise ZeroDivisionError("no")
        return Score(value=0.5)

    metrics = chosen("accuracy") | {
        "fussy": (Metric(name="fussy", summary="", params=Params, score=fussy), Params())
    }
    found = compare(random_model(1), random_model(2), LABELS, metrics=metrics, main="accuracy", draws=100)
    assert "ZeroDivisionError" in found.metrics["fussy"].note
    assert found.metrics["fussy"].low is None
    assert found.metrics["accuracy"].low is not None


def test_nan_among_the_probabilities_is_refused():
    bad = random_model(1)
    bad[3] = np.nan
    with pytest.raises(DataError, match="image 3"):
        compared(random_model(1), bad)


# ── McNemar ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 9), (9, 3), (0, 6), (12, 12), (1, 23)])
def test_few_discordant_images_are_tested_exactly(only_a, only_b):
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1
    assert p_value(only_a, only_b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 20), (30, 50), (200, 263), (900, 1100), (25, 25)])
def test_more_of_them_by_mid_p(only_a, only_b):
    fewer, tosses = min(only_a, only_b), only_a + only_b
    expected = 2 * (stats.binom.cdf(fewer, tosses, 0.5) - stats.binom.pmf(fewer, tosses, 0.5) / 2)
    assert p_value(only_a, only_b) == pytest.approx(min(1, expected), rel=1e-9)
    chi_square = (only_a - only_b) ** 2 / tosses  # McNemar's own, of which mid-p is the exact counterpart
    assert p_value(only_a, only_b) == pytest.approx(stats.chi2.sf(chi_square, 1), abs=0.01)


def test_a_textbook_table():
    """Agresti's ratings of the prime minister: 794, 150, 86 and 570; McNemar's z is -4.17."""
    fate = np.repeat([0, 1, 2, 3], [794, 150, 86, 570])
    found = mcnemar((fate == 0) | (fate == 1), (fate == 0) | (fate == 2))
    assert (found.both_right, found.only_a, found.only_b, found.both_wrong) == (794, 150, 86, 570)
    assert found.p == pytest.approx(2 * stats.norm.sf(4.166), rel=0.1)


def test_of_several_labels_a_model_is_right_if_it_is_in_all():
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]] * 3)
    a, b = 0.2 + 0.6 * labels, 0.2 + 0.6 * labels
    b[0] = [0.9, 0.9]
    found = compare(a, b, labels, metrics=chosen("exact_match"), main="exact_match", draws=100)
    assert (found.mcnemar.both_right, found.mcnemar.only_a) == (11, 1)


# ── Calibration ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one label", "several"])
def test_calibration_and_recalls_are_those_of_the_metrics_of_that_name(labels):
    a, b = random_model(1, labels), random_model(2, labels)
    found = compared(a, b, labels, draws=100)
    assert list(found.calibration) == ["brier", "log_loss", "ece"]
    scores = [score_all(chosen("recall", *found.calibration), given, labels) for given in (a, b)]
    for name, difference in found.calibration.items():
        assert (difference.a, difference.b) == tuple(score[name].value for score in scores)
        assert not difference.higher_is_better
    recalls = [(one.a, one.b) for one in found.recall]
    assert recalls == list(zip(*(score["recall"].per_class for score in scores), strict=True))


def test_a_metric_that_is_asked_for_and_told_anyway_is_told_once():
    coarse = (installed().get(Metric, "ece"), installed().get(Metric, "ece").params(bins=3))
    options = {"metrics": {"ece": coarse}, "main": "ece", "draws": 100}
    found = compare(random_model(1), random_model(2), LABELS, **options)
    assert found.calibration["ece"] == found.metrics["ece"]
    assert (
        found.calibration["ece"] != compared(random_model(1), random_model(2), draws=100).calibration["ece"]
    )


def test_calibration_rests_on_all_images_even_where_a_class_is_rare():
    a, b, labels = of_a_rare_class(2)
    found = compared(a, b, labels, metrics=("ece",), draws=2000)
    assert found.metrics["ece"].low is not None
    assert None not in [one.low for one in found.calibration.values()]
