"""One temperature: it is the best one, it changes no answer, and where there is none it stays 1."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from histoflow.evaluation.temperature import HIGHEST, fit_temperature, tempered

CHANCE = np.random.default_rng(4)
RAW = CHANCE.normal(size=(3000, 4)) * 1.5


def softmax(raw):
    odds = np.exp(raw - raw.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def drawn(probabilities):
    """Labels that come true as often as these say."""
    return (CHANCE.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)


def log_loss(probabilities, labels):
    if labels.ndim == 2:
        return -np.log(np.where(labels == 1, probabilities, 1 - probabilities)).mean()
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


TRUTH = drawn(softmax(RAW))
SEVERAL = (CHANCE.random(RAW.shape) < 1 / (1 + np.exp(-RAW))).astype(np.int64)


@pytest.mark.parametrize("too_sure", [0.4, 2.5])
def test_it_finds_how_much_too_sure_a_network_is(too_sure):
    temperature, note = fit_temperature(softmax(RAW * too_sure), TRUTH)
    assert temperature == pytest.approx(too_sure, rel=0.05)
    assert note == ""
    of_several, _ = fit_temperature(1 / (1 + np.exp(-RAW * too_sure)), SEVERAL)
    assert of_several == pytest.approx(too_sure, rel=0.05)


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [(softmax(3 * RAW), TRUTH), (1 / (1 + np.exp(-3 * RAW)), SEVERAL)],
    ids=["one label", "several"],
)
def test_no_other_temperature_has_a_lower_log_loss(probabilities, labels):
    several = labels.ndim == 2
    temperature, _ = fit_temperature(probabilities, labels)
    losses = [
        log_loss(tempered(probabilities, one, several=several), labels)
        for one in (temperature, *np.geomspace(0.8, 8, 60))
    ]
    assert losses[0] <= min(losses) + 1e-9


def test_it_changes_no_answer():
    probabilities = softmax(3 * RAW)
    calibrated = tempered(probabilities, 2.2, several=False)
    assert (calibrated.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert calibrated.sum(axis=1) == pytest.approx(np.ones(len(RAW)))
    assert calibrated.max() < probabilities.max()
    several = tempered(probabilities, 2.2, several=True)
    assert ((several > 0.5) == (probabilities > 0.5)).all()
    assert tempered(probabilities, 1.0, several=False) is probabilities


def test_the_order_of_two_classes_stays_that_far_below_what_float32_tells_from_0():
    raw = np.array([-80.0, -50, -40, -35, -30, -28, 3])
    probabilities = (
        np.exp(-np.logaddexp(0, np.stack([raw, -raw], axis=1))).astype(np.float32).astype(np.float64)
    )
    calibrated = tempered(probabilities, 2.0, several=False)
    assert (np.diff(calibrated[:, 1]) > 0).all()
    labels = np.array([0, 0, 0, 0, 1, 0, 1])
    assert roc_auc_score(labels, calibrated[:, 1]) == roc_auc_score(labels, probabilities[:, 1]) == 0.9


def test_certainties_stay_numbers():
    certain = np.eye(3)[[0, 1, 2, 0] * 5]
    labels = np.array([0, 1, 2, 1] * 5)
    temperature, _ = fit_temperature(certain, labels)
    assert temperature > 1
    assert np.isfinite(tempered(certain, temperature, several=False)).all()
    assert np.isfinite(tempered(certain, temperature, several=True)).all()


def test_where_every_image_is_right_it_stays_1_and_says_so():
    temperature, note = fit_temperature(0.7 * np.eye(3)[[0, 1, 2] * 6] + 0.1, np.array([0, 1, 2] * 6))
    assert (temperature, "told rightly" in note) == (1, True)
    shown = np.array([[1, 0], [0, 1]] * 6)
    assert fit_temperature(0.2 + 0.6 * shown, shown)[0] == 1


def test_where_every_image_is_wrong_it_ends_at_its_bound_and_says_so():
    temperature, note = fit_temperature(0.7 * np.eye(3)[[1, 2, 0] * 6] + 0.1, np.array([0, 1, 2] * 6))
    assert temperature == HIGHEST
    assert note == "validation asks for one beyond 10, at which it was left"


def test_a_few_images_are_too_few():
    temperature, note = fit_temperature(softmax(RAW[:1]), TRUTH[:1])
    assert (temperature, note) == (1, "validation holds 1 images, and it takes 10, so it stays 1")


def test_equal_probabilities_know_no_temperature():
    assert fit_temperature(np.full((40, 4), 0.25), TRUTH[:40]) == (1, "")


def test_a_validation_of_one_class_is_told():
    _, note = fit_temperature(softmax(RAW[:200] + 2 * np.eye(4)[2]), np.full(200, 2))
    assert note.startswith("all validation images are of class 2")
