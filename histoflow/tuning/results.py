"""Gathers what the report says of a study."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace

from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as State

from histoflow import home, runs
from histoflow.registry import Registry
from histoflow.report.tuning_data import Axis, Retrained, TrialState, Tried, TuningResults
from histoflow.tuning.space import Dimension, Options, described
from histoflow.tuning.study import Study
from histoflow.tuning.tuner import Tuner, tuning_of

FEWEST_FOR_IMPORTANCE = 4
"""Below so many finished trials the shares would be chance."""
_STATES: dict[State, TrialState] = {
    State.COMPLETE: "complete",
    State.PRUNED: "pruned",
    State.FAIL: "failed",
    State.RUNNING: "running",
}


def results_of(study: Study, registry: Registry | None = None) -> TuningResults:
    """All that the report says of a study."""
    with tuning_of(study, registry) as tuner:
        return replace(snapshot(tuner), importances=_importances(tuner), retrained=tuple(_retrained(study)))


def snapshot(tuner: Tuner) -> TuningResults:
    """A study as it stands, without what takes long to find out."""
    record, best = tuner.study.read(), tuner.best()
    return TuningResults(
        folder=tuner.study.folder,
        study=tuner.study.id,
        name=record.name,
        created=record.created,
        search=record.search,
        objectives=tuner.objectives,
        higher_is_better=tuner.higher_is_better,
        axes=tuple(_axis(dimension) for dimension in tuner.space.dimensions),
        trials=tuple(_tried(trial, tuner) for trial in tuner.trials() if trial.state in _STATES),
        best=best.number if best else None,
        front=tuner.front(),
        configuration=tuner.experiment_of(best, faithful=True).to_data() if best else {},
        environment=record.environment,
    )


def _axis(dimension: Dimension) -> Axis:
    domain = dimension.domain
    if isinstance(domain, Options):
        return Axis(name=dimension.name, choices=domain.labels)
    return Axis(name=dimension.name, low=domain.low, high=domain.high, log=domain.log)


def _tried(trial: FrozenTrial, tuner: Tuner) -> Tried:
    notes = trial.user_attrs
    return Tried(
        number=trial.number,
        state=_STATES[trial.state],
        point=trial.params,
        label=described(tuner.space, trial.params),
        values=tuple(trial.values or ()) if trial.state in (State.COMPLETE, State.PRUNED) else (),
        epochs=notes.get("epochs"),
        seconds=notes.get("seconds"),
        error=str(notes.get("error", "")),
    )


def _importances(tuner: Tuner) -> Mapping[str, float]:
    done = [trial for trial in tuner.trials() if trial.state == State.COMPLETE]
    if len(done) < FEWEST_FOR_IMPORTANCE:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter")  # the page says what few trials mean
        shares = get_param_importances(tuner.remembered)
    return {name: float(share) for name, share in shares.items()}


def _retrained(study: Study) -> list[Retrained]:
    found = []
    for run in runs.listing(home.runs()):
        if run.id.startswith(f"{study.id}-trial-"):
            scores = (run.metrics() or {}).get("scores", {})
            figures = {name: score["value"] for name, score in scores.items()}
            found.append(Retrained(run=run.id, state=run.read().state, scores=figures))
    return found
