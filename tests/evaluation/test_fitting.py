"""What is fitted on validation: all that is asked, in its order, kept and read back; and what is refused."""

import json

import numpy as np
import pytest

from histoflow import DataError
from histoflow.evaluation import fitting
from histoflow.evaluation.fitting import fit
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.temperature import fit_temperature
from histoflow.evaluation.thresholds import choose_threshold
from histoflow.experiment import Evaluation

CHANCE = np.random.default_rng(6)


def validation(classes, images=300, several=False):
    if several:
        labels = (CHANCE.random((images, classes)) < 0.4).astype(np.int64)
        raw = CHANCE.normal(size=labels.shape) * 2 + 3 * labels - 1.5
        return Predictions(probabilities=1 / (1 + np.exp(-raw)), labels=labels)
    labels = np.arange(images) % classes
    raw = 2 * CHANCE.normal(size=(images, classes))
    raw[np.arange(images), labels] += 3
    odds = np.exp(raw)
    return Predictions(probabilities=odds / odds.sum(axis=1, keepdims=True), labels=labels)


def test_thresholds_and_sets_are_of_calibrated_probabilities():
    kept, settings = validation(2), Evaluation(threshold="youden")
    found = fit(kept, settings, "abc")
    assert (found.model, found.task, found.images) == ("abc", "binary", 300)
    assert found.temperature == fit_temperature(kept.probabilities, kept.labels)[0] != 1
    calibrated = found.calibrated(kept.probabilities)
    assert found.thresholds == (choose_threshold(calibrated[:, 1], kept.labels == 1, settings)[0],)
    assert (found.told(calibrated) == (calibrated[:, 1] >= found.thresholds[0])).all()
    held = found.sets(calibrated)[np.arange(300), kept.labels]
    assert 0.9 <= held.mean() < 0.92


def test_several_labels_have_a_threshold_each():
    kept = validation(3, several=True)
    found = fit(kept, Evaluation(threshold="sensitivity", target=0.9), "abc")
    told = found.told(found.calibrated(kept.probabilities))
    assert (found.task, len(found.thresholds), len(found.levels)) == ("multilabel", 3, 3)
    for one in range(3):
        shown = kept.labels[:, one] == 1
        assert 0.9 <= told[shown, one].mean() < 0.9 + 1 / shown.sum() + 1e-9


def test_what_is_not_asked_for_is_left_as_it_was():
    kept = validation(4)
    found = fit(kept, Evaluation(calibration="none", coverage=None), "abc")
    assert (found.temperature, found.thresholds, found.levels, found.coverage) == (1, None, None, None)
    assert found.rule == "the likeliest class"
    assert found.calibrated(kept.probabilities) is kept.probabilities
    assert found.sets(kept.probabilities) is None
    assert (found.told(kept.probabilities) == kept.probabilities.argmax(axis=1)).all()


def test_it_is_read_back_as_it_was_written(tmp_path):
    found = fit(validation(3, several=True), Evaluation(threshold="cost"), "abc")
    found.save(tmp_path)
    assert fitting.load(tmp_path) == found
    assert fitting.load(tmp_path / "nowhere") is None


def test_a_damaged_file_says_what_to_do(tmp_path):
    (tmp_path / fitting.FILE).write_text('{"model": "abc"}')
    with pytest.raises(DataError, match="Evaluate the run again: histoflow evaluate"):
        fitting.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0}, "greater than 0"),
        ({"temperature": float("inf")}, "finite"),
        ({"schema_version": 99}, "must be 1 for this histoflow, and is 99"),
        ({"thresholds": (0.1, 0.2)}, "thresholds of a binary task must be 1, and are 2"),
        ({"thresholds": ()}, "thresholds of a binary task must be 1, and are 0"),
        ({"levels": (0.1,)}, "a level for each of 2 classes, and are 1"),
        (
            {"task": "multiclass", "thresholds": (0.1,)},
            "thresholds of a multiclass task must be none, and are 1",
        ),
        ({"task": "multilabel", "thresholds": (0.1,) * 3, "levels": (0.1,) * 2}, "each of 3 classes"),
    ],
)
def test_what_cannot_be_of_any_model_is_refused(tmp_path, changed, message):
    kept = {"schema_version": 1, "model": "abc", "task": "binary", "images": 9} | changed
    (tmp_path / fitting.FILE).write_text(json.dumps(kept))
    with pytest.raises(DataError, match=f"(?s){message}.*Evaluate the run again"):
        fitting.load(tmp_path)


def test_it_tells_whether_it_can_be_of_a_model_with_so_many_classes():
    several = fit(validation(3, several=True), Evaluation(threshold="youden"), "abc")
    assert several.problem_with(3) == ""
    assert several.problem_with(4) == "thresholds of a multilabel task must be 4, and are 3"
    assert "a level for each of 5" in fit(validation(4), Evaluation(), "abc").problem_with(5)


def test_numbers_that_are_none_are_refused():
    kept = validation(3, images=20)
    kept.probabilities[4] = np.nan
    with pytest.raises(DataError, match="what the model says of validation.*finite.*the first is image 4"):
        fit(kept, Evaluation(), "abc")


def test_two_images_fit_nothing_and_every_set_holds_all():
    kept = Predictions(probabilities=np.array([[0.8, 0.2], [0.6, 0.4]]), labels=np.array([0, 1]))
    found = fit(kept, Evaluation(threshold="youden"), "abc")
    assert (found.temperature, found.levels) == (1, (0, 0))
    assert [note.partition(":")[0] for note in found.notes] == [
        "temperature",
        "prediction sets",
        "prediction sets",
    ]


def test_one_class_on_validation_gives_one_half_and_says_so():
    kept = Predictions(probabilities=validation(2).probabilities, labels=np.zeros(300, np.int64))
    found = fit(kept, Evaluation(threshold="youden"), "abc")
    assert found.thresholds == (0.5,)
    assert "threshold of class 1: no validation image shows it" in found.notes


def test_constant_probabilities_fit_what_they_can():
    kept = Predictions(probabilities=np.full((60, 2), 0.5), labels=np.arange(60) % 2)
    found = fit(kept, Evaluation(threshold="youden"), "abc")
    assert (found.temperature, found.thresholds, found.levels) == (1, (0.5,), (0.5, 0.5))
    assert found.sets(kept.probabilities).all()
