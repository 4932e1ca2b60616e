"""A search small enough for tests, and the loop that a flow runs, without the flow."""

from __future__ import annotations

from typing import Any

from histoflow import stages
from histoflow.experiment import Experiment
from histoflow.tuning.settings import Tuning, parse_search
from histoflow.tuning.study import Study, begin
from histoflow.tuning.trial import Outcome, TrialOrder, outcome_of, train_trial
from histoflow.tuning.tuner import Tuner, tuning_of
from support import preprocessed, small_experiment

RATES = {"optimizer.lr": [0.001, 0.01], "training.batch_size": [32, 64]}


def small_tuning(experiment: dict[str, Any] | None = None, **search: Any) -> Tuning:
    """A grid of four trials of one epoch, unless told otherwise."""
    settings = {"sampler": "grid", "space": RATES, "fidelity": {"training.epochs": 1}, **search}
    return Tuning(small_experiment(**(experiment or {})), parse_search(settings))


def packed(experiment: Experiment) -> stages.Packed:
    return preprocessed(experiment)


def train(order: TrialOrder, data: stages.Packed) -> Outcome:
    for _ in train_trial(order, data):
        pass
    return outcome_of(order)


def search(study: Study, trials: int | None = None) -> None:
    """Train and tell so many trials, or all that are left."""
    data = packed(study.tuning().experiment)
    with tuning_of(study) as tuner:
        tuner.prepare()
        told = 0
        while told != trials and (order := tuner.next()) is not None:
            tuner.tell(order, train(order, data))
            told += 1


def begun(tuning: Tuning, study_id: str = "study") -> Study:
    return begin(tuning, study_id)


def points(tuner: Tuner) -> list[dict[str, Any]]:
    return [dict(trial.params) for trial in tuner.trials()]
