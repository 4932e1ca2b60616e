"""Drives a study: hands out trials, is told what became of them, and finds the best."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from histoflow import files
from histoflow import registry as plugins
from histoflow.errors import (
    DeviceMemoryError,
    DivergedError,
    ExperimentError,
    HistoflowError,
    TimeLimitError,
    TuningError,
)
from histoflow.experiment import Experiment, higher_is_better
from histoflow.registry import Registry
from histoflow.tuning import database
from histoflow.tuning.checking import objectives_of, space_of, with_settings
from histoflow.tuning.settings import USUAL_TRIALS, Tuning
from histoflow.tuning.space import Space, described
from histoflow.tuning.study import Study
from histoflow.tuning.trial import Outcome, TrialOrder

ITS_OWN_FAULT = (DivergedError, DeviceMemoryError, TimeLimitError, ExperimentError)
"""What a configuration brings about itself, and would again; any other failure may pass."""
TOO_MANY_FAILURES = 3
"""So many failures in a row that no configuration is to blame for, and the study stops."""


@contextmanager
def tuning_of(study: Study, registry: Registry | None = None) -> Iterator[Tuner]:
    """The driver of a study; the caller holds the study's lock."""
    registry = registry or plugins.installed()
    tuning = study.tuning(registry)
    space = space_of(tuning, registry, str(study.folder / "study.json"))
    objectives = objectives_of(tuning)
    rising = tuple(higher_is_better(name, registry) for name in objectives)
    address = database.address_of(study.folder, tuning.search.storage)
    pruner = database.pruner_of(tuning.search.pruner, _trial_epochs(tuning, registry))
    with database.opened(address, study.id, rising, pruner) as remembered:
        yield Tuner(study, tuning, space, objectives, rising, address, remembered, registry)


def _trial_epochs(tuning: Tuning, registry: Registry) -> int:
    return with_settings(tuning.experiment, list(tuning.search.fidelity.items()), registry).training.epochs


@dataclass
class Tuner:
    """A study at work."""

    study: Study
    tuning: Tuning
    space: Space
    objectives: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    address: str
    remembered: optuna.Study
    registry: Registry
    _to_go_on: list[FrozenTrial] = field(default_factory=list)
    _failures: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Lay down the grid, and line up what an earlier process left unfinished or failed by bad luck."""
        if self.tuning.search.sampler == "grid":
            for point in self.space.grid()[: self.tuning.search.trials]:
                self.remembered.enqueue_trial(point, skip_if_exists=True)
        trials = self.trials()
        self._to_go_on = [trial for trial in trials if trial.state == TrialState.RUNNING]
        tried_again = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.user_attrs.get("may_pass") and trial.number not in tried_again:
                attributes = {"again": trial.number, "run": _run_name(trial)}
                self.remembered.enqueue_trial(dict(trial.params), user_attrs=attributes)

    def trials(self) -> list[FrozenTrial]:
        return self.remembered.get_trials(deepcopy=False)

    @property
    def wanted(self) -> int | None:
        """How many configurations the search is to try; None: all that are laid down."""
        search = self.tuning.search
        return search.trials if search.sampler == "grid" else search.trials or USUAL_TRIALS

    def left(self) -> int:
        """How many trials are still to end."""
        trials = self.trials()
        open_ones = sum(1 for trial in trials if not trial.state.is_finished())
        return open_ones + max(0, (self.wanted or 0) - len(trials))

    def next(self) -> TrialOrder | None:
        """The next trial to train, or None where no more are to begin."""
        while (trial := self._next_trial()) is not None:
            order = self._order(trial)
            if order is not None:
                return order
        return None

    def _next_trial(self) -> FrozenTrial | None:
        if self._to_go_on:
            return self._drawn(database.trial_of(self.remembered, self._to_go_on.pop(0).number))
        trials = self.trials()
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and (self.tuning.search.sampler == "grid" or self._are_enough(trials)):
            return None
        return self._drawn(self.remembered.ask())

    def _drawn(self, trial: optuna.Trial) -> FrozenTrial:
        """The trial with a value for each dimension; those that it has already stay."""
        search = self.tuning.search
        always = all(dimension.needs is None for dimension in self.space.dimensions)
        self.remembered.sampler = database.sampler_of(
            search.sampler, search.seed, trial.number, jointly=always
        )
        self.space.draw(trial)
        return self.trials()[trial.number]

    def _are_enough(self, trials: list[FrozenTrial]) -> bool:
        different = sum(1 for trial in trials if "again" not in trial.user_attrs)
        return self.wanted is not None and different >= self.wanted

    def _order(self, trial: FrozenTrial) -> TrialOrder | None:
        try:
            experiment = self.experiment_of(trial, faithful=False)
        except ExperimentError as error:
            self._fail(trial.number, error)
            return None
        return TrialOrder(
            study=self.study.id,
            number=trial.number,
            label=described(self.space, trial.params),
            folder=self.study.trials / _run_name(trial),
            experiment=experiment.to_data(),
            objectives=self.objectives,
            higher_is_better=self.higher_is_better,
            pruner=self.tuning.search.pruner,
            storage=self.address,
            neighbours=1 if self.tuning.search.address else self.tuning.search.parallel,
        )

    def experiment_of(self, trial: FrozenTrial, *, faithful: bool) -> Experiment:
        """The trial's configuration: as it was tried, or ``faithful`` to the experiment's own epochs."""
        settings = self.space.settings(trial.params)
        fidelity = [] if faithful else list(self.tuning.search.fidelity.items())
        return with_settings(self.tuning.experiment, [*settings, *fidelity], self.registry)

    # ── What became of a trial ──────────────────────────────────────────────────────────────────

    def tell(self, order: TrialOrder, outcome: Outcome | Exception) -> None:
        """Remember what a trial came to; its checkpoints are not needed any more."""
        if isinstance(outcome, Outcome):
            self._failures.clear()
            self._tell_outcome(order.number, outcome)
        else:
            self._fail(order.number, outcome)
            self._refuse_to_fail_on_and_on(order, outcome)
        if not self.trials()[order.number].user_attrs.get("may_pass"):
            shutil.rmtree(order.folder / "checkpoints", ignore_errors=True)

    def _tell_outcome(self, number: int, outcome: Outcome) -> None:
        if any(value is None for value in outcome.values):
            undefined = [n for n, v in zip(self.objectives, outcome.values, strict=True) if v is None]
            self._fail(
                number, DivergedError(f"{', '.join(undefined)} is not defined on the validation split.")
            )
            return
        self._note(number, epochs=outcome.epochs, seconds=outcome.seconds, best_epoch=outcome.best_epoch)
        if outcome.state == "pruned":
            self.remembered.tell(number, state=TrialState.PRUNED)
        else:
            self.remembered.tell(number, [float(value) for value in outcome.values if value is not None])

    def _fail(self, number: int, error: Exception) -> None:
        message = str(error) if isinstance(error, HistoflowError) else f"{type(error).__name__}: {error}"
        self._note(number, error=message[:2000], may_pass=not isinstance(error, ITS_OWN_FAULT))
        self.remembered.tell(number, state=TrialState.FAIL)

    def _note(self, number: int, **facts: Any) -> None:
        trial = database.trial_of(self.remembered, number)
        for name, fact in facts.items():
            trial.set_user_attr(name, fact)

    def _refuse_to_fail_on_and_on(self, order: TrialOrder, error: Exception) -> None:
        if isinstance(error, ITS_OWN_FAULT):
            return
        self._failures.append(order.title)
        if len(self._failures) >= TOO_MANY_FAILURES:
            raise TuningError(
                f"{TOO_MANY_FAILURES} trials in a row failed, and not by their settings; the last, "
                f"{order.title}: {type(error).__name__}: {error} "
                f"See to that, then go on: histoflow tune --resume {self.study.id}"
            ) from error

    # ── The best ────────────────────────────────────────────────────────────────────────────────

    def best(self) -> FrozenTrial | None:
        """The trial with the best (first) objective of those that were trained to their end."""
        done = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if not done:
            return None
        sign = -1 if self.higher_is_better[0] else 1
        front = self.front()
        candidates = [trial for trial in done if not front or trial.number in front]
        return min(candidates, key=lambda trial: (sign * trial.values[0], trial.number))

    def front(self) -> frozenset[int]:
        """With several objectives: the trials that no other one beats in all of them."""
        if len(self.objectives) == 1:
            return frozenset()
        return frozenset(trial.number for trial in self.remembered.best_trials)

    def require_best(self) -> FrozenTrial:
        best = self.best()
        if best is None:
            reasons = dict.fromkeys(
                str(t.user_attrs["error"]) for t in self.trials() if "error" in t.user_attrs
            )
            told = "".join(f"\n  {reason}" for reason in list(reasons)[:5])
            raise TuningError(
                f"No trial of study {self.study.id} came to its end, so there is no best one:{told}"
            )
        return best

    def best_run_id(self) -> str:
        """The run of the best configuration on all data; another best one is another run."""
        return f"{self.study.id}-trial-{self.require_best().number:04d}"

    def write_best(self) -> Experiment:
        """Lay the best experiment beside the study, and return it."""
        experiment = self.experiment_of(self.require_best(), faithful=True)
        files.write_text(self.study.folder / "best.yaml", files.yaml_of(experiment.to_data()))
        return experiment


def _run_name(trial: FrozenTrial) -> str:
    attributes: Mapping[str, Any] = trial.user_attrs
    return str(attributes.get("run", f"trial-{trial.number:04d}"))
