"""What the gate makes of predictions: figures as they would come from models of known quality."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from histoflow.errors import ExperimentError
from histoflow.evaluation.predictions import Predictions
from histoflow.experiment import parse
from histoflow.registry import installed
from histoflow.retraining.gate import (
    Check,
    Gate,
    Pace,
    Verdict,
    compared,
    first,
    incomparable,
    parse_gate,
    weigh,
)
from histoflow.retraining.judging import metrics_of

CLASSES = ("normal", "stroma", "tumour")
ALIKE = Pace(champion=1.0, challenger=1.0, device="this machine")
EXPERIMENT = parse({"dataset": {"name": "tissue"}, "metrics": ["accuracy"]})


def model(wrong: Any, images: int = 3000, sure: float = 0.9, groups: int | None = None) -> Predictions:
    """One that tells another class of the images at these places, and is right ``sure`` of the time it says."""
    labels = np.arange(images) % 3
    told = labels.copy()
    told[wrong] = (labels[wrong] + 1) % 3
    probabilities = np.full((images, 3), (1 - sure) / 2)
    probabilities[np.arange(images), told] = sure
    names = None if groups is None else np.array([f"slide {one % groups}" for one in range(images)])
    return Predictions(probabilities=probabilities, labels=labels, groups=names)


def some(share: float, seed: int, images: int = 3000) -> NDArray[np.int64]:
    return np.random.default_rng(seed).choice(images, int(share * images), replace=False)


def of_class(index: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    return places[places % 3 == index]


def verdict(
    champion: Predictions, challenger: Predictions, pace: Pace | None = ALIKE, **settings: Any
) -> Verdict:
    gate = Gate(**settings)
    metrics, main = metrics_of(EXPERIMENT, gate, installed())
    found = compared(champion, challenger, metrics=metrics, main=main)
    return weigh(champion, challenger, found, CLASSES, gate, pace)


def outcomes(found: Verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


OLD = model(some(0.1, seed=1))


def test_one_that_is_better_everywhere_is_promoted() -> None:
    found = verdict(OLD, model(some(0.05, seed=2), sure=0.95), require="better")
    assert found.decision == "promote", found.why
    assert set(outcomes(found).values()) == {"passed"}
    assert found.why == "All 6 checks are passed."


def test_one_that_is_as_good_is_promoted_unless_it_must_be_better() -> None:
    alike = model(np.concatenate([some(0.1, seed=1)[5:], some(0.1, seed=3)[:5]]))
    assert verdict(OLD, alike).decision == "promote"
    unsure = verdict(OLD, alike, require="better")
    assert unsure.decision == "hold"
    assert "is not shown to be better" in unsure.why
    assert verdict(OLD, alike, require="better", if_unsure="reject").decision == "reject"


def test_one_that_is_worse_is_rejected_however_wide_the_margin() -> None:
    worse = verdict(OLD, model(some(0.14, seed=2)), margin=0.5, class_margin=0.5)
    assert worse.decision == "reject"
    assert worse.why.startswith("The challenger is worse: accuracy 0.9000 of the champion, 0.8600")
    assert outcomes(worse)["accuracy"] == "failed"


def test_a_class_that_loses_is_seen_behind_a_better_whole() -> None:
    challenger = model(of_class(2, some(0.2, seed=4)), sure=0.93)
    found = verdict(OLD, challenger)
    assert outcomes(found)["accuracy"] == "passed"
    assert found.decision == "hold"
    assert found.why.startswith("The challenger loses more than 0.05 in recall of tumour")
    assert found.why.endswith("a person must weigh the two.")
    alike = verdict(OLD, model(np.concatenate([of_class(2, some(0.2, seed=4)), of_class(0, some(0.1, 1))])))
    assert (alike.decision, outcomes(alike)["recall of tumour"]) == ("reject", "failed"), (
        "nothing speaks for it"
    )


@pytest.mark.parametrize(("images", "decision"), [(300, "hold"), (3000, "promote")])
def test_few_images_show_nothing_and_a_person_decides(images: int, decision: str) -> None:
    wrong, others = some(0.1, 1, images), some(0.1, 3, images)
    share = images // 300
    challenger = model(np.concatenate([wrong[share:], others[:share]]), images)
    assert verdict(model(wrong, images), challenger).decision == decision


def test_where_nothing_has_changed_the_number_of_images_bounds_what_may_be_hidden() -> None:
    perfect = model(np.array([], int))
    found = verdict(perfect, perfect)
    assert found.decision == "promote"
    assert "right on the very same images, among which chance might hide a loss of 0.0012" in str(
        found.checks
    )
    few = model(np.array([], int), groups=6)
    assert outcomes(verdict(few, few))["accuracy"] == "unsure", "six slides, whatever their images"


@pytest.mark.parametrize(("images", "outcome"), [(60, "unsure"), (600, "passed")])
def test_where_nothing_was_lost_few_images_may_still_hide_a_loss(images: int, outcome: str) -> None:
    """By resampling alone three gains and no loss would always pass."""
    gained = verdict(model(of_class(0, np.arange(9)), images), model(np.array([], int), images))
    assert outcomes(gained)["recall of normal"] == outcome
    found = next(check for check in gained.checks if check.name == "recall of normal")
    assert found.low is not None
    assert found.low >= 0
    assert "no image was lost, among which chance might hide a loss of" in found.words
    more = verdict(model(of_class(0, np.arange(18)), images), model(np.array([], int), images))
    assert outcomes(more)["recall of normal"] == "passed", "six of one sign are no chance"


def test_a_first_model_that_never_tells_a_class_waits_for_a_person() -> None:
    blind = model(of_class(2, np.arange(3000)))
    found = first(blind, CLASSES, Gate())
    assert (found.decision, list(outcomes(found))) == ("hold", ["recall of tumour"])
    assert found.why == "The model tells tumour of none of the 1,000 test images that show it."
    of_four = replace(OLD, probabilities=np.pad(OLD.probabilities, ((0, 0), (0, 1))))
    assert "No test image shows mucus" in first(of_four, (*CLASSES, "mucus"), Gate()).why
    assert first(OLD, CLASSES, Gate()).decision == "promote"


def test_calibration_goes_by_its_interval_as_the_other_checks_do() -> None:
    assert outcomes(verdict(OLD, model(some(0.1, seed=1), sure=0.85)))["calibration error"] == "failed"
    assert outcomes(verdict(OLD, model(some(0.1, seed=1), sure=0.89)))["calibration error"] == "passed"
    few, others = (model(some(0.1, seed, 100), 100, sure) for seed, sure in ((1, 0.9), (3, 0.89)))
    found = next(check for check in verdict(few, others).checks if check.name == "calibration error")
    assert found.champion is not None
    assert found.challenger is not None
    assert found.high is not None
    assert found.challenger - found.champion < 0.02 < found.high, "the figure alone would pass"
    assert found.outcome == "unsure"
    assert "might grow by more than 0.02" in found.words
    of_five = model(some(0.1, seed=1), sure=0.89, groups=5)
    unknown = outcomes(verdict(model(some(0.1, seed=1), groups=5), of_five))
    assert unknown["calibration error"] == "unsure", "of five slides there is no interval"


def test_one_that_takes_longer_waits_for_a_person_and_one_not_timed_does_not() -> None:
    slow = verdict(OLD, OLD, Pace(champion=1.0, challenger=2.0, device="this machine"))
    assert slow.decision == "hold"
    assert slow.why == ("It takes 2.00 times as long, beyond 1.5: 2 ms an image against 1 on this machine.")
    unknown = verdict(OLD, OLD, None)
    assert (unknown.decision, outcomes(unknown)["speed"]) == ("promote", "unknown")
    assert unknown.why == "All 5 checks are passed."


def test_the_metric_may_be_one_that_the_experiment_does_not_name() -> None:
    found = verdict(OLD, model(some(0.05, seed=2), sure=0.95), metric="mcc")
    assert found.checks[0].name == "mcc"


def test_one_that_cannot_be_compared_waits_with_the_reason() -> None:
    found = incomparable("Its classes are others.", Gate())
    assert (found.decision, found.why) == ("hold", "Its classes are others.")
    assert found.checks == (Check(name="comparison", outcome="unsure", words="Its classes are others."),)
    assert incomparable("Its classes are others.", Gate(if_unsure="reject")).decision == "reject"


def test_every_mistake_in_the_settings_is_told() -> None:
    with pytest.raises(ExperimentError) as error:
        parse_gate({"margin": -1, "requires": "better"}, "--gate")
    assert "gate.margin" in str(error.value)
    with pytest.raises(ExperimentError, match=r"gate\.slower"):
        parse_gate({"slower": float("inf")}, "--gate")
    assert "gate.requires" in str(error.value)
    assert "require" in str(error.value)
