"""Calibration, operating point, prediction sets and groups in metrics.json: all follow from what is stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from histoflow import seeds, stages
from histoflow.errors import DataError
from histoflow.evaluation import by_group, fitting, further, predictions
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.resampling import resamples
from histoflow.registry import installed
from histoflow.runs import Run
from scoring import BY_NAME, main_figures_of, metrics_of
from support import small_experiment, trained

PARTS = ("calibration", "operating", "sets", "aggregated", "notes")
WAYS = ["mean", "max", "top_k", "vote"]
EVALUATION = {
    "threshold": "sensitivity",
    "target": 0.8,
    "aggregate": WAYS,
    "top_k": 3,
    "coverage": 0.8,
    "embedding": False,
    "gallery": 0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("further")))
        asked = small_experiment(
            evaluation=EVALUATION,
            training={"epochs": 1, "batch_size": 32},
            metrics=[name for name, metric in BY_NAME.items() if "binary" in metric.tasks],
        )
        found = trained(asked, "run")
        stages.evaluate(found)
    return found


def looked(kept, validation=None, metrics=("accuracy", "roc_auc"), **evaluation):
    asked = small_experiment(metrics=list(metrics), evaluation=evaluation)
    validation = validation or kept
    fitted = fitting.fit(validation, asked.evaluation, "abc")
    chosen = metrics_of(asked)
    found = further.look(asked, chosen, kept, validation, fitted, installed())
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found, fitted


def made(labels, classes=2, groups=None, seed=1):
    labels, chance = np.asarray(labels), np.random.default_rng(seed)
    raw = 2.5 * chance.normal(size=(len(labels), classes))
    raw[np.arange(len(labels)), labels] += 3
    odds = np.exp(raw)
    return Predictions(probabilities=odds / odds.sum(axis=1, keepdims=True), labels=labels, groups=groups)


# ── A run's figures, from its files ─────────────────────────────────────────────────────────────


def test_a_run_s_sections_are_those_of_its_stored_predictions(run):
    kept, validation = predictions.load(run.folder), predictions.load(run.folder, predictions.VALIDATION)
    fitted, asked = fitting.load(run.folder), stages.experiment_of(run)
    assert fitted == fitting.fit(validation, asked.evaluation, run.metrics()["model"])
    again = further.look(asked, metrics_of(asked), kept, validation, fitted, installed())
    written = run.metrics()
    assert {part: written[part] for part in PARTS} == json.loads(json.dumps(again))


def test_a_run_s_figures_and_their_intervals_are_those_of_its_stored_predictions(run):
    written, again = run.metrics(), main_figures_of(run)
    assert len(again["scores"]) > 12
    assert {part: written[part] for part in again} == again


def test_groups_are_kept_beside_the_images(run, tmp_path):
    asked, fitted = stages.experiment_of(run), fitting.load(run.folder)
    whole = predictions.load(run.folder)
    slides = np.array([f"{label}-{place % 5}" for place, label in enumerate(whole.labels.tolist())])
    kept = replace(whole, groups=slides)
    told = by_group.look(asked.evaluation, metrics_of(asked), kept, fitted, seed=1)
    by_group.save(tmp_path, asked.evaluation, kept, fitted)
    assert list(told["by"]) == WAYS
    for way in WAYS:
        table = predictions.load(tmp_path, f"groups_{way}.npz")
        assert table.sources.tolist() == sorted(set(slides))
        assert len(table.labels) == told["groups"]
        right = table.probabilities.argmax(axis=1) == table.labels
        assert told["by"][way]["scores"]["accuracy"]["value"] == pytest.approx(right.mean())
        assert told["by"][way]["intervals"]["by"] == "group"
    of_slide = fitted.calibrated(kept.probabilities)[slides == sorted(set(slides))[0]]
    mean = predictions.load(tmp_path, "groups_mean.npz").probabilities[0]
    assert mean == pytest.approx(of_slide.mean(axis=0))


def test_groups_of_several_classes_have_no_figures(run):
    """Each made slide holds every kind of tissue."""
    told = run.metrics()["aggregated"]
    assert told["undefined"].startswith("most groups hold images of several classes")
    assert not any(one["scores"] for one in told["by"].values())
    assert not list(run.folder.glob("groups_*.npz"))


# ── Each part against scikit-learn, or by hand ──────────────────────────────────────────────────


def test_calibration_before_and_after():
    kept, validation = made(np.arange(400) % 3, 3), made(np.arange(500) % 3, 3, seed=2)
    found, fitted = looked(kept, validation)
    told, one_hot = found["calibration"], np.eye(3)[kept.labels]
    for when, given in (("before", kept.probabilities), ("after", fitted.calibrated(kept.probabilities))):
        scores = told[when]
        assert scores["log_loss"]["value"] == pytest.approx(reference.log_loss(kept.labels, given))
        assert scores["brier"]["value"] == pytest.approx(((given - one_hot) ** 2).sum(axis=1).mean())
        bins = told["bins"][when]
        gaps = sum(one["count"] * abs(one["told"] - one["right"]) for one in bins)
        assert scores["ece"]["value"] == pytest.approx(gaps / 400)
        assert sum(one["count"] for one in bins) == 400
        assert all(one["above"] < one["told"] <= one["to"] for one in bins)
        low, high = scores["log_loss"]["interval"]
        assert low < scores["log_loss"]["value"] < high
    assert told["after"]["log_loss"]["value"] < told["before"]["log_loss"]["value"]
    assert (told["temperature"], told["images"]) == (fitted.temperature, 500)


def test_without_a_temperature_there_is_no_after():
    found, _ = looked(made(np.arange(60) % 2), calibration="none")
    assert found["calibration"]["after"] is found["calibration"]["bins"]["after"] is None


def test_the_operating_point_of_two_classes():
    kept, validation = made(np.arange(300) % 2), made(np.arange(300) % 2, seed=2)
    found, fitted = looked(kept, validation, threshold="cost", miss_cost=4)
    told = fitted.calibrated(kept.probabilities)[:, 1] >= fitted.thresholds[0]
    scores = found["operating"]["scores"]
    expected = {
        "sensitivity": reference.recall_score(kept.labels, told),
        "specificity": reference.recall_score(kept.labels, told, pos_label=0),
        "precision": reference.precision_score(kept.labels, told),
        "f1": reference.f1_score(kept.labels, told),
    }
    assert {name: score["value"] for name, score in scores.items()} == pytest.approx(expected)
    assert all(score["interval"][0] < score["value"] < score["interval"][1] for score in scores.values())
    assert found["operating"]["thresholds"] == list(fitted.thresholds)
    assert found["operating"]["validation"]["sensitivity"]["value"] > 0.9  # misses cost the most


def test_the_operating_point_of_several_labels():
    chance = np.random.default_rng(3)
    labels = (chance.random((200, 3)) < (0.5, 0.3, 0)).astype(np.int64)
    kept = Predictions(probabilities=0.6 * chance.random((200, 3)) + 0.4 * labels, labels=labels)
    found, fitted = looked(kept, metrics=("accuracy",), threshold="youden")
    told, scores = fitted.told(fitted.calibrated(kept.probabilities)), found["operating"]["scores"]
    assert scores["sensitivity"]["value"] == pytest.approx(told[labels == 1].mean())
    for one in range(2):
        assert scores["f1"]["per_class"][one] == pytest.approx(
            reference.f1_score(labels[:, one], told[:, one])
        )
    assert scores["sensitivity"]["per_class"][2] is None
    assert scores["sensitivity"]["undefined"] == "class 2: no image shows it"
    assert "threshold of class 2: no validation image shows it" in found["notes"]
    assert set(found["sets"]["scores"]) == {"coverage", "size"}


def test_prediction_sets_overall_and_by_class():
    kept, validation = made(np.arange(240) % 3, 3), made(np.arange(600) % 3, 3, seed=2)
    found, fitted = looked(kept, validation, coverage=0.75)
    sets = fitted.calibrated(kept.probabilities) >= np.array(fitted.levels)
    held, single, scores = sets[np.arange(240), kept.labels], sets.sum(axis=1) == 1, found["sets"]["scores"]
    for place, rows in ((None, np.ones(240, bool)), *((one, kept.labels == one) for one in range(3))):
        value = {name: s["value"] if place is None else s["per_class"][place] for name, s in scores.items()}
        assert value["coverage"] == pytest.approx(held[rows].mean())
        assert value["size"] == pytest.approx(sets[rows].sum(axis=1).mean())
        assert value["abstained"] == pytest.approx(1 - single[rows].mean())
        assert value["accuracy_if_decided"] == pytest.approx(held[rows & single].mean())
    assert {0, 1, 2} <= set(sets.sum(axis=1))


@pytest.mark.parametrize("groups", [None, np.array([f"slide {image % 30}" for image in range(240)])])
def test_intervals_hold_95_of_100_resamples(groups):
    kept = made(np.arange(240) % 3, 3, groups=groups)
    found, fitted = looked(kept, coverage=0.8)
    calibrated = fitted.calibrated(kept.probabilities)
    held = (calibrated >= np.array(fitted.levels))[np.arange(240), kept.labels]
    loss = -np.log(calibrated[np.arange(240), kept.labels])
    seed = seeds.derive(small_experiment().seed, seeds.Stream.RESAMPLES)
    weights = np.concatenate(list(resamples(kept.labels, groups, 2000, seed)))
    for values, score in (
        (held, found["sets"]["scores"]["coverage"]),
        (loss, found["calibration"]["after"]["log_loss"]),
    ):
        drawn = (weights @ values) / weights.sum(axis=1)
        assert score["interval"] == pytest.approx(list(np.quantile(drawn, (0.025, 0.975))), abs=1e-6)


def test_intervals_draw_groups_where_there_are_some():
    groups = np.array([f"slide {image // 20}" for image in range(300)])
    found, _ = looked(made(np.arange(300) % 2, groups=groups))
    assert (found["sets"]["intervals"]["by"], found["sets"]["intervals"]["units"]) == ("group", 15)
    assert found["aggregated"]["groups"] == found["aggregated"]["mixed"] == 15


# ── What cannot be told ─────────────────────────────────────────────────────────────────────────


def test_three_groups_have_figures():
    groups = np.repeat(["a", "b", "c"], 20)
    found, _ = looked(made(np.repeat([0, 1, 1], 20), groups=groups))
    assert found["aggregated"]["by"]["mean"]["intervals"]["units"] == 3
    assert (found["aggregated"]["mixed"], found["aggregated"]["undefined"]) == (0, "")


@pytest.mark.parametrize(
    ("groups", "reason"),
    [(np.repeat("a", 40), "of one group"), (np.arange(40).astype(str), "each group is a single image")],
)
def test_groups_that_tell_nothing_have_no_figures(groups, reason, tmp_path):
    kept = made(np.arange(40) % 2, groups=groups)
    found, fitted = looked(kept)
    assert reason in found["aggregated"]["undefined"]
    assert found["aggregated"]["by"] == {}
    by_group.save(tmp_path, small_experiment().evaluation, kept, fitted)
    assert list(tmp_path.iterdir()) == []


def test_images_without_groups_or_ways_have_no_groups():
    assert looked(made(np.arange(40) % 2))[0]["aggregated"] is None
    with_groups = made(np.arange(40) % 2, groups=np.repeat(["a", "b"], 20))
    assert looked(with_groups, aggregate=[])[0]["aggregated"] is None


def test_groups_of_one_class_say_what_is_undefined():
    groups = np.repeat(["a", "b", "c"], 20)
    score = looked(made(np.ones(60, int), groups=groups))[0]["aggregated"]["by"]["mean"]["scores"]["roc_auc"]
    assert (score["value"], score["undefined"]) == (None, "all images are of class 1")


def test_one_class_in_test_leaves_the_other_undefined():
    found, _ = looked(made(np.zeros(50, int)), made(np.arange(80) % 2))
    assert found["operating"]["scores"]["sensitivity"]["value"] is None
    assert found["operating"]["scores"]["sensitivity"]["undefined"] == "no image shows it"
    assert found["operating"]["scores"]["specificity"]["value"] is not None
    assert found["sets"]["scores"]["coverage"]["undefined"] == "class 1: no image is of it"


def test_constant_probabilities_abstain_on_everything():
    kept = Predictions(probabilities=np.full((60, 2), 0.5), labels=np.arange(60) % 2)
    found, _ = looked(kept, threshold="youden")
    scores = found["sets"]["scores"]
    assert (scores["coverage"]["value"], scores["abstained"]["value"], scores["size"]["value"]) == (1, 1, 2)
    assert scores["accuracy_if_decided"]["value"] is None
    assert "the model abstains on each of its images" in scores["accuracy_if_decided"]["undefined"]
    assert found["calibration"]["bins"]["before"][0]["right"] == 0.5


def test_two_images_are_looked_at_all_the_same():
    found, _ = looked(made([0, 1], groups=np.array(["a", "b"])))
    assert found["sets"]["scores"]["size"]["value"] == 2
    assert found["calibration"]["temperature"] == 1


def test_more_than_two_classes_have_no_operating_point():
    assert looked(made(np.arange(60) % 3, 3))[0]["operating"] is None


def test_numbers_that_are_none_are_refused():
    kept, good = made(np.arange(20) % 2), made(np.arange(20) % 2)
    kept.probabilities[3] = np.nan
    with pytest.raises(DataError, match="must be finite numbers.*the first is image 3"):
        looked(kept, good)
