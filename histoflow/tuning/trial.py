"""One trial: trains its configuration in a run folder of its own, and ends early where it falls behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from histoflow import registry as plugins
from histoflow import runs, stages
from histoflow.errors import RunError
from histoflow.experiment import Experiment, Training, higher_is_better, parse
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.tuning.settings import PrunerName

if TYPE_CHECKING:
    import optuna


class TrialOrder(BaseModel):
    """All that the process that trains a trial is told; plain data, so that it can travel."""

    model_config = ConfigDict(frozen=True)

    study: str
    number: int
    label: str
    """The configuration in one short line."""
    folder: Path
    """The run folder, which may hold what an earlier process trained."""
    experiment: dict[str, Any]
    objectives: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    pruner: PrunerName = "none"
    storage: str
    """The address of the study's database."""
    neighbours: int = 1
    """How many trials train at once on one machine, this one among them, and share its cores."""

    @property
    def devices(self) -> int:
        """On how many it trains."""
        return int(self.experiment["compute"]["devices"])

    @property
    def title(self) -> str:
        return f"trial {self.number}: {self.label}"


class Outcome(BaseModel):
    """What a trial came to."""

    model_config = ConfigDict(frozen=True)

    state: Literal["complete", "pruned"]
    values: tuple[float | None, ...]
    """The objectives, in the epoch that the experiment's own monitor keeps."""
    epochs: int
    best_epoch: int
    seconds: float


def train_trial(
    order: TrialOrder, packed: stages.Packed, device: str | None = None, registry: Registry | None = None
) -> Iterator[dict[str, Any]]:
    """Train, or go on training, yielding each epoch; ends where all are done or the pruner says so.

    ``device`` takes the place of 'auto'. Whoever stops asking leaves the trial to go on another time.
    """
    registry = registry or plugins.installed()
    experiment = parse(order.experiment, registry)
    run = _run_of(order, experiment, registry)
    with _judging(order) as judge:
        if judge.is_hopeless(run.history()):
            return
        placed = _placed(experiment, device, order.neighbours)
        with closing(stages.training(placed, packed, run, registry)) as epochs:
            for entry in epochs:
                hopeless = judge.is_hopeless(run.history())
                yield entry
                if hopeless and entry["epoch"] < experiment.training.epochs:
                    return


def outcome_of(order: TrialOrder) -> Outcome:
    """What the run folder of a trial says that it came to."""
    from histoflow.best import best_epoch

    run = Run(order.folder)
    history, record = run.history(), run.read()
    if not history:
        raise RunError(f"{order.title} has not trained a single epoch.")
    training = Training.model_validate(order.experiment["training"])
    rises = higher_is_better(training.monitor, plugins.installed())
    kept = best_epoch(history, training.monitored, rises)
    return Outcome(
        state="pruned" if record.stopped is None else "complete",
        values=tuple(history[kept - 1].get(name) for name in order.objectives),
        epochs=len(history),
        best_epoch=kept,
        seconds=sum(entry["seconds"] for entry in history),
    )


def _run_of(order: TrialOrder, experiment: Experiment, registry: Registry) -> Run:
    run = Run(order.folder)
    if run.folder.exists():
        return run
    return runs.create(order.folder.parent, order.folder.name, experiment, registry)


def _placed(experiment: Experiment, device: str | None, neighbours: int) -> Experiment:
    """On a device of its own, and with its part of the cores: two trials that both use all cores are slower
    together than one after the other."""
    from histoflow.engine.device import cores

    changes: dict[str, Any] = {}
    if device is not None and experiment.compute.device == "auto":
        changes["device"] = device
    if neighbours > 1 and experiment.compute.threads is None:
        changes["threads"] = max(1, cores() // neighbours)
    return experiment.model_copy(update={"compute": experiment.compute.model_copy(update=changes)})


# ── Pruning ─────────────────────────────────────────────────────────────────────────────────────


class _Judge:
    """Compares a trial with the others after each epoch; without one of the database it lets all go on."""

    def __init__(self, trial: optuna.Trial | None, objective: str, told: Mapping[int, float]) -> None:
        self._trial, self._objective, self._told = trial, objective, dict(told)

    def is_hopeless(self, history: Sequence[Mapping[str, Any]]) -> bool:
        if self._trial is None or not history:
            return False
        for entry in history:
            self._tell(entry["epoch"], entry.get(self._objective))
        return bool(self._trial.should_prune())

    def _tell(self, epoch: int, value: float | None) -> None:
        if self._trial is not None and value is not None and epoch not in self._told:
            self._told[epoch] = value
            self._trial.report(value, epoch)


@contextmanager
def _judging(order: TrialOrder) -> Iterator[_Judge]:
    """The judge of this trial; only a pruner needs the study's database."""
    if order.pruner == "none":
        yield _Judge(None, "", {})
        return
    from histoflow.tuning import database

    epochs = order.experiment["training"]["epochs"]
    pruner = database.pruner_of(order.pruner, epochs)
    with database.opened(order.storage, order.study, order.higher_is_better, pruner) as study:
        trial = database.trial_of(study, order.number)
        known = study.get_trials(deepcopy=False)[order.number].intermediate_values
        yield _Judge(trial, order.objectives[0], known)
