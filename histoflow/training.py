"""Trains a run: drives the engine, keeps checkpoints, stops when patience ends, goes on where it was."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from histoflow import files, progress, stopping
from histoflow._crosschecks import cross_check
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device
from histoflow.engine.fit import Epoch, Position, Trainee, fit
from histoflow.errors import DeviceMemoryError, ExperimentError, RunError, TimeLimitError
from histoflow.experiment import Experiment
from histoflow.registry import Registry
from histoflow.runs import Run, environment, now
from histoflow.watchdog import Watchdog, watching
from histoflow.workshop import Workshop

Entry = dict[str, Any]
"""What history.json says of one epoch."""
_SAVING_MAY_TAKE = 0.05
"""The share of the time that checkpoints within epochs may take; a slow disk gets fewer of them."""


def train_run(
    experiment: Experiment, store: PackedStore, run: Run, registry: Registry
) -> Generator[Entry, None, None]:
    """Train until the last epoch or another reason to stop, yielding each epoch once it is saved.

    The caller holds the run's lock. Once ``stopping.asked()``, it ends after a last checkpoint.
    """
    _refuse_other_data(run, store)
    _refuse_misfit(experiment, store, registry)
    store.verify(["train", "val"])
    workshop = Workshop(experiment, registry, store.manifest, choose_device(experiment.training.device))
    run.update(packed=str(store.folder), data_fingerprint=store.manifest.fingerprint)
    limit = experiment.training.stall_limit
    with watching(limit, run.folder / "stalled.txt") as watchdog:
        history, stopped = yield from _in_as_many_parts_as_it_takes(workshop, store, run, watchdog)
        if run.read().stopped is None:
            run.update(state="trained", best=_best(history, workshop), stopped=stopped)


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


def _in_as_many_parts_as_it_takes(
    workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog
) -> Generator[Entry, None, tuple[list[Entry], str]]:
    """Train; where memory runs out and the experiment allows it, go on with batches in smaller parts."""
    parts = 1
    while True:
        session = None
        try:
            session = _begin(workshop, store, run, watchdog, parts)
            stopped = yield from session.train()
        except torch.OutOfMemoryError as error:
            parts = _more_parts(session.parts if session else parts, workshop.experiment, error)
        else:
            return session.history, stopped
        del session  # and with it all that lies in the device's memory
        gc.collect()
        torch.cuda.empty_cache()


def _more_parts(parts: int, experiment: Experiment, error: torch.OutOfMemoryError) -> int:
    settings = experiment.training
    may_split = settings.on_out_of_memory == "split"
    if not may_split or parts * 2 > settings.batch_size:
        other = "" if may_split else ", or let batches be halved by training.on_out_of_memory=split"
        raise DeviceMemoryError(
            f"Batches of {settings.batch_size} images in {parts} {'part' if parts == 1 else 'parts'} do not "
            f"fit into the device's memory: {error}. Lower training.batch_size or the images' size{other}."
        ) from error
    progress.say(f"The device's memory is too small: batches go through it in {parts * 2} parts from now on.")
    return parts * 2


def _begin(workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog, parts: int) -> _Session:
    """Everything as the last checkpoint left it, or as it is before the first step."""
    saved = checkpoint.find(run.checkpoints, "last")
    batches = workshop.train_batches(store)
    trainee = workshop.trainee(len(batches), weights_follow=saved is not None)
    session = _Session(workshop, store, run, watchdog, batches, trainee, parts)
    if saved is not None:
        session.go_on_from(saved)
    return session


@dataclass
class _Session:
    """One process's share of the training."""

    workshop: Workshop
    store: PackedStore
    run: Run
    watchdog: Watchdog
    batches: TrainBatches
    trainee: Trainee
    parts: int
    history: list[Entry] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    _save_at: float = math.inf
    _end_at: float = math.inf

    def go_on_from(self, saved: checkpoint.Checkpoint) -> None:
        checkpoint.load_training(saved, self.trainee, self.workshop.device)
        self.history = [dict(entry) for entry in saved.history]
        self.position = saved.position
        self.parts = max(self.parts, saved.parts)
        files.write_json(
            self.run.folder / "history.json", self.history
        )  # a kill may have come between the two
        progress.say(f"Going on {_place(saved.position, len(self.batches))}, from {saved.folder}")

    def train(self) -> Generator[Entry, None, str]:
        """Add to the history until there is a reason to stop, and return it."""
        reason = self.run.read().stopped or _why_stop(self.history, self.workshop)
        if reason is not None:
            return reason
        self._start_clocks()
        self.run.update(state="training", sessions=(*self.run.read().sessions, self._record()))
        for moment in self._moments():
            if isinstance(moment, Position):
                reason = self._pause(moment)
            else:
                entry = self._keep(moment)
                self.watchdog.rest()
                yield entry
                reason = _why_stop(self.history, self.workshop)
            if reason is not None:
                return reason
        raise AssertionError("the last epoch is always a reason to stop")

    def _moments(self) -> Iterator[Epoch | Position]:
        settings = self.workshop.experiment.training
        return fit(
            self.trainee,
            _Counted(self.batches, settings.epochs),
            self.workshop.validator(self.store, self.trainee.loss, self.watchdog, self.parts),
            seed=self.workshop.experiment.seed,
            epochs=settings.epochs,
            start=self.position,
            pause=self._wants_pause,
            parts=self.parts,
        )

    def _start_clocks(self) -> None:
        settings = self.workshop.experiment.training
        begun = time.monotonic()
        self._save_at = begun + settings.checkpoint_seconds
        if settings.time_limit is not None:
            epochs = sum(entry["seconds"] + entry["validation_seconds"] for entry in self.history)
            spent = epochs + self.position.seconds
            self._end_at = begun + 60 * settings.time_limit - spent

    def _record(self) -> dict[str, Any]:
        """That this process trains from here on, and with what."""
        return {
            "time": now(),
            "after_epoch": len(self.history),
            "after_step": self.position.step,
            "parts": self.parts,
            "device": str(self.workshop.device),
            **environment(),
        }

    def _wants_pause(self) -> bool:
        self.watchdog.beat()
        return time.monotonic() >= min(self._save_at, self._end_at) or stopping.asked()

    def _pause(self, position: Position) -> str | None:
        """Save; then make way for whoever asked, or tell that time is over."""
        self._save(position, best=False)
        if stopping.asked():
            stopping.give_way()
        if time.monotonic() < self._end_at:
            return None
        limit = self.workshop.experiment.training.time_limit
        if not self.history:
            raise TimeLimitError(
                f"The training.time_limit of {limit:g} minutes ended before the first epoch did, so there is "
                f"no model to evaluate. Start a new run with a longer limit."
            )
        return f"the time limit of {limit:g} minutes"

    def _keep(self, epoch: Epoch) -> Entry:
        entry = epoch.to_data()
        self.history.append(entry)
        is_best = _best(self.history, self.workshop)["epoch"] == epoch.epoch
        self._save(Position(epoch=epoch.epoch + 1), best=is_best)
        files.write_json(self.run.folder / "history.json", self.history)
        progress.say(_line(epoch, self.workshop.experiment, is_best))
        return entry

    def _save(self, position: Position, *, best: bool) -> None:
        begun = time.monotonic()
        checkpoint.save(
            self.run.checkpoints, self.trainee, self.history, position, best=best, parts=self.parts
        )
        ended = time.monotonic()
        every = self.workshop.experiment.training.checkpoint_seconds
        self._save_at = ended + max(every, (ended - begun) / _SAVING_MAY_TAKE)


def _place(position: Position, steps: int) -> str:
    if position.step:
        return f"in epoch {position.epoch}, after step {position.step} of {steps}"
    return f"after epoch {position.epoch - 1}"


def _best(history: Sequence[Mapping[str, Any]], workshop: Workshop) -> dict[str, Any]:
    monitor = workshop.experiment.training.monitor
    epoch = best_epoch(history, monitor, workshop.higher_is_better())
    return {"epoch": epoch, "monitor": monitor, "value": history[epoch - 1][monitor]}


def _why_stop(history: Sequence[Mapping[str, Any]], workshop: Workshop) -> str | None:
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

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        with progress.track(f"Epoch {epoch} of {self._epochs}", total=self._batches.images) as advance:
            if first_step:
                advance(self._batches.images_before(first_step))
            yield from progress.counted(self._batches.epoch(epoch, first_step), advance)


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
