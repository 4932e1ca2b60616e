"""Trains a run: drives the engine, keeps checkpoints, stops when patience ends, goes on where it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from histoflow import files, progress
from histoflow._crosschecks import cross_check
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device
from histoflow.engine.fit import Epoch, Trainee, fit
from histoflow.errors import ExperimentError, RunError
from histoflow.experiment import Experiment
from histoflow.registry import Registry
from histoflow.runs import Run, environment, now
from histoflow.workshop import Workshop

History = list[dict[str, Any]]


def train_run(experiment: Experiment, store: PackedStore, run: Run, registry: Registry) -> History:
    """Train until the last epoch or until patience ends; the caller holds the run's lock."""
    _refuse_other_data(run, store)
    _refuse_misfit(experiment, store, registry)
    store.verify(["train", "val"])
    device = choose_device(experiment.training.device)
    workshop = Workshop(experiment, registry, store.manifest, device)
    batches = workshop.train_batches(store)
    saved = checkpoint.find(run.checkpoints, "last")
    trainee = workshop.trainee(len(batches), weights_follow=saved is not None)
    history = _go_on_from(saved, run, trainee, workshop)
    run.update(packed=str(store.folder), data_fingerprint=store.manifest.fingerprint)
    if (stopped := _why_stop(history, workshop)) is None:
        run.update(state="training", sessions=(*run.read().sessions, _session(history, device)))
        stopped = _train_epochs(workshop, trainee, batches, store, run, history)
    if run.read().stopped is None:
        run.update(state="trained", best=_best(history, workshop), stopped=stopped)
    return history


def _session(history: History, device: torch.device) -> dict[str, Any]:
    """That this process trains from here on, and with what."""
    return {"time": now(), "after_epoch": len(history), "device": str(device), **environment()}


def _best(history: History, workshop: Workshop) -> dict[str, Any]:
    monitor = workshop.experiment.training.monitor
    epoch = best_epoch(history, monitor, workshop.higher_is_better())
    return {"epoch": epoch, "monitor": monitor, "value": history[epoch - 1][monitor]}


def _refuse_other_data(run: Run, store: PackedStore) -> None:
    begun_with = run.read().data_fingerprint
    if begun_with not in (None, store.manifest.fingerprint):
        raise RunError(
            f"The data of run {run.id} have changed since it began: their fingerprint was "
            f"{str(begun_with)[:16]} and is {store.manifest.fingerprint[:16]} now. "
            f"Put the data back as they were, or start a new run."
        )


def _refuse_misfit(experiment: Experiment, store: PackedStore, registry: Registry) -> None:
    problems = cross_check(experiment, registry, packed=store.manifest.info)
    if problems:
        raise ExperimentError(problems, f"the experiment, now that its data are packed in {store.folder}")


def _go_on_from(
    saved: checkpoint.Checkpoint | None, run: Run, trainee: Trainee, workshop: Workshop
) -> History:
    """Put back the last checkpoint, if there is one, and return the epochs behind it."""
    if saved is None:
        return []
    checkpoint.load_training(saved, trainee, workshop.device)
    history = [dict(entry) for entry in saved.history]
    files.write_json(run.folder / "history.json", history)  # a kill may have come between the two
    progress.say(f"Going on after epoch {saved.epoch}, from {saved.folder}")
    return history


def _train_epochs(
    workshop: Workshop,
    trainee: Trainee,
    batches: TrainBatches,
    store: PackedStore,
    run: Run,
    history: History,
) -> str:
    """Add to the history until there is a reason to stop, and return it."""
    settings = workshop.experiment.training
    epochs = fit(
        trainee,
        _Counted(batches, settings.epochs),
        workshop.validator(store, trainee.loss),
        seed=workshop.experiment.seed,
        epochs=settings.epochs,
        first_epoch=len(history) + 1,
    )
    for epoch in epochs:
        history.append(epoch.to_data())
        is_best = best_epoch(history, settings.monitor, workshop.higher_is_better()) == epoch.epoch
        checkpoint.save(run.checkpoints, trainee, history, best=is_best)
        files.write_json(run.folder / "history.json", history)
        progress.say(_line(epoch, workshop.experiment, is_best))
        if (reason := _why_stop(history, workshop)) is not None:
            return reason
    raise AssertionError("the last epoch is always a reason to stop")


def _why_stop(history: History, workshop: Workshop) -> str | None:
    """The reason to train no further after these epochs, if there is one."""
    settings = workshop.experiment.training
    if len(history) >= settings.epochs:
        return f"all {settings.epochs} epochs trained"
    if _out_of_patience(history, settings.monitor, settings.patience, workshop.higher_is_better()):
        return f"no better {settings.monitor} for {settings.patience} epochs"
    return None


class _Counted:
    """Batches that report each step to whoever shows progress."""

    def __init__(self, batches: TrainBatches, epochs: int) -> None:
        self._batches, self._epochs = batches, epochs

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        with progress.track(f"Epoch {epoch} of {self._epochs}", total=self._batches.images) as advance:
            yield from progress.counted(self._batches.epoch(epoch), advance)


def _line(epoch: Epoch, experiment: Experiment, is_best: bool) -> str:
    """The losses, the first metric and the monitored figure; the whole is in history.json."""
    shown = dict.fromkeys(("val_loss", f"val_{experiment.metrics[0].name}", experiment.training.monitor))
    found = {"train_loss": epoch.train_loss, **{name: epoch.values[name] for name in shown}}
    figures = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    mark = "  ← best" if is_best else ""
    return f"Epoch {epoch.epoch}/{experiment.training.epochs}  {figures}{mark}"


def best_epoch(history: Sequence[Mapping[str, Any]], monitor: str, higher_is_better: bool) -> int:
    """The first epoch with the best monitored figure; the last one where it was never defined."""
    sign = -1 if higher_is_better else 1
    defined = [(sign * entry[monitor], entry["epoch"]) for entry in history if entry[monitor] is not None]
    return int(min(defined)[1]) if defined else int(history[-1]["epoch"])


def _out_of_patience(
    history: Sequence[Mapping[str, Any]], monitor: str, patience: int | None, higher_is_better: bool
) -> bool:
    if patience is None or not history:
        return False
    return len(history) - best_epoch(history, monitor, higher_is_better) >= patience
