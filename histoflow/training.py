"""Trains a run: drives the engine, keeps checkpoints, stops when patience ends, goes on where it was."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from histoflow import progress, stopping
from histoflow._crosschecks import cross_check
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.batch import Batch
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.fit import Epoch, Position, fit
from histoflow.engine.modes import computed
from histoflow.engine.profile import Profile, Unprofiled
from histoflow.engine.step import Manner, Trainee
from histoflow.engine.team import ALONE, Team
from histoflow.errors import DeviceError, DeviceMemoryError, ExperimentError, RunError, TimeLimitError
from histoflow.experiment import Experiment
from histoflow.explaining import memory_line
from histoflow.finding import largest_batch
from histoflow.glance import Glance
from histoflow.planning import USUAL_BATCH, plan_for
from histoflow.registry import Registry
from histoflow.runs import Run, environment, now
from histoflow.watchdog import Watchdog, watching
from histoflow.workshop import Workshop

Entry = dict[str, Any]
"""What history.json says of one epoch."""
_SAVING_MAY_TAKE = 0.05
"""The share of the time that checkpoints within epochs may take; a slow disk gets fewer of them."""


def train_run(
    experiment: Experiment,
    store: PackedStore,
    run: Run,
    registry: Registry,
    *,
    profile: bool = False,
    team: Team = ALONE,
) -> Generator[Entry, None, None]:
    """Train until the last epoch or another reason to stop, yielding each epoch as its checkpoint is written.

    The caller holds the run's lock. Once ``stopping.asked()``, it ends after a last checkpoint. With
    ``profile``, the run's folder ``profile`` tells where the time of the first epoch went. Each process of
    a ``team`` does this at the same time.
    """
    with team.leader_first():  # the others plan as it has written down
        _refuse_other_data(run, store)
        _refuse_misfit(experiment, store, registry)
        if team.leads:
            store.verify(["train", "val"])
        run.update(packed=str(store.folder), data_fingerprint=store.manifest.fingerprint)
        workshop = _workshop(experiment, store, run, registry, team)
        if team.leads:
            progress.say(memory_line(workshop))
    deterministic, limit = experiment.compute.deterministic, experiment.training.stall_limit
    with watching(limit, run.folder / _stalled(team)) as watchdog:
        work = _in_as_many_parts_as_it_takes(workshop, store, run, watchdog, profile)
        history, stopped = yield from computed(
            work, workshop.plan, workshop.device, deterministic=deterministic
        )
        if run.read().stopped is None:
            run.update(state="trained", best=_best(history, workshop), stopped=stopped)


def _stalled(team: Team) -> str:
    """The file that tells where a process hung."""
    return "stalled.txt" if team.leads else f"stalled-{team.rank}.txt"


def _workshop(
    experiment: Experiment, store: PackedStore, run: Run, registry: Registry, team: Team
) -> Workshop:
    """Everything decided about how to compute, and written down for sessions to come."""
    device = team.device or choose_device(experiment.compute.device)
    former = run.read().plan
    plan = plan_for(experiment, machine_of(device), store.manifest, former)
    wanted = experiment.training.batch_size
    found = former and former["batch_size"]
    workshop = Workshop(experiment, registry, store.manifest, device, plan, found or _usable(wanted), team)
    if wanted == "auto" and not found:
        workshop = replace(workshop, batch_size=largest_batch(workshop, store))
    run.update(plan={**plan.values(), "batch_size": workshop.batch_size})
    return workshop


def _usable(batch_size: int | Literal["auto"]) -> int:
    return USUAL_BATCH if batch_size == "auto" else batch_size


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
    workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog, profile: bool
) -> Generator[Entry, None, tuple[list[Entry], str]]:
    """Train; where memory runs out and the experiment allows it, go on with batches in smaller parts."""
    parts = workshop.experiment.training.accumulate
    while True:
        session = None
        try:
            session = _begin(workshop, store, run, watchdog, parts)
            if profile and workshop.team.leads:
                session.be_profiled()
            stopped = yield from session.train()
        except torch.OutOfMemoryError as error:
            parts = _more_parts(session.parts if session else parts, workshop, error)
        except RuntimeError as error:
            _explain_if_not_deterministic(error)
            raise
        else:
            return session.history, stopped
        finally:
            if session is not None:
                session.end()
        del session  # and with it all that lies in the device's memory
        gc.collect()
        torch.cuda.empty_cache()


def _explain_if_not_deterministic(error: RuntimeError) -> None:
    told = str(error)
    if "does not have a deterministic implementation" in told or "CUBLAS_WORKSPACE_CONFIG" in told:
        raise DeviceError(
            f"compute.deterministic cannot be true with these components on a GPU ({told.split('.')[0]}). "
            f"Use compute.deterministic=false, or components without that operation."
        ) from error


def _more_parts(parts: int, workshop: Workshop, error: torch.OutOfMemoryError) -> int:
    may_split = workshop.experiment.training.on_out_of_memory == "split"
    if not workshop.team.is_alone:
        raise DeviceMemoryError(
            f"Batches of {workshop.batch_size} images on {workshop.team.ranks} devices do not fit into their "
            f"memory: {error}. Lower training.batch_size or the images' size, or let a batch pass in more "
            f"parts (training.accumulate)."
        ) from error
    if not may_split or parts * 2 > workshop.batch_size:
        other = "" if may_split else ", or let batches be halved by training.on_out_of_memory=split"
        raise DeviceMemoryError(
            f"Batches of {workshop.batch_size} images in {parts} {'part' if parts == 1 else 'parts'} do not "
            f"fit into the device's memory: {error}. Lower training.batch_size or the images' size{other}."
        ) from error
    progress.say(f"The device's memory is too small: batches go through it in {parts * 2} parts from now on.")
    return parts * 2


def _bring(batches: TrainBatches, workshop: Workshop) -> None:
    """Images that are to lie on the device are brought there before anything else takes its memory."""
    try:
        batches.bring()
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The packed images do not fit into the memory that is free on {workshop.device}: {error}. "
            f"Let them lie elsewhere: compute.data=host."
        ) from error


def _begin(workshop: Workshop, store: PackedStore, run: Run, watchdog: Watchdog, parts: int) -> _Session:
    """Everything as the last checkpoint left it, or as it is before the first step."""
    saved = checkpoint.find(run.checkpoints, "last")
    batches = workshop.train_batches(store)
    _bring(batches, workshop)
    trainee = workshop.trainee(len(batches), weights_follow=saved is not None)
    writer = checkpoint.Writer(run.checkpoints)
    session = _Session(workshop, store, run, watchdog, batches, trainee, parts, writer)
    if saved is not None:
        session.go_on_from(saved)
    workshop.make_ready(trainee)
    exact = workshop.device.type == "cpu" or workshop.experiment.compute.deterministic
    workshop.team.join(trainee, exact=exact)
    return session


class _Word(IntEnum):
    """What a pause is for; each has the reasons before it as well."""

    GO_ON = 0
    TELL = 1
    SAVE = 2
    TIME_IS_OVER = 3
    MAKE_WAY = 4


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
    writer: checkpoint.Writer
    history: list[Entry] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    _save_at: float = math.inf
    _end_at: float = math.inf
    _profile: Unprofiled = field(default_factory=Unprofiled)

    def __post_init__(self) -> None:
        settings, device = self.workshop.experiment.training, self.workshop.device
        shown = _shown(self.workshop.experiment)
        self._glance = Glance(settings.epochs, len(self.batches), shown, settings.monitor, device)

    def be_profiled(self) -> None:
        """To be called before it trains."""
        name, device = self.workshop.experiment.architecture.name, self.workshop.device
        about = f"{name}, batches of {self.workshop.batch_size}, {machine_of(device).name}"
        self._profile = Profile(self.run.folder / "profile", about, device)

    def go_on_from(self, saved: checkpoint.Checkpoint) -> None:
        checkpoint.load_training(saved, self.trainee, self.workshop.device)
        self.history = [dict(entry) for entry in saved.history]
        if self.history:
            self._glance.after(self.history, _best(self.history, self.workshop)["epoch"])
        self.position = saved.position
        self.parts = max(self.parts, saved.parts)
        self.run.write_history(self.history)  # a kill may have come between the two
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

    def end(self) -> None:
        """Nothing follows: what was begun to be written is written, and what was shown is over."""
        self._glance.over()
        self.writer.wait()
        self._profile.end()

    def _moments(self) -> Iterator[Epoch | Position]:
        settings = self.workshop.experiment.training
        validate = self.workshop.validator(self.store, self.trainee.loss, self.watchdog, self.parts)
        return fit(
            self._profile.trainee(self.trainee),
            _Counted(self._profile.batches(self.batches), settings.epochs),
            self._profile.validate(self._glance.validating(validate)),
            seed=self.workshop.team.seed(self.workshop.experiment.seed),
            epochs=settings.epochs,
            start=self.position,
            pause=self._wants_pause,
            manner=self._manner(),
            monitor=self.workshop.monitored,
            mean=self.workshop.team.mean,
        )

    def _manner(self) -> Manner:
        return Manner(
            dtype=self.workshop.plan.dtype,
            parts=self.parts,
            processes=self.workshop.team.ranks,
            clip=self.workshop.experiment.training.clip,
            graphs=self.trainee.recordable and self.batches.is_resident,
            without_graphs=self._without_graphs,
        )

    def _without_graphs(self, error: Exception) -> None:
        """A component does what cannot be recorded; only who asked for graphs must hear of it as an error."""
        if self.workshop.experiment.compute.graphs == "on":
            raise DeviceError(
                f"compute.graphs cannot be on: a step cannot be recorded with these components ({error}). "
                f"Use compute.graphs=auto."
            ) from error
        progress.say(f"A step cannot be recorded as a CUDA graph, and is taken kernel by kernel: {error}")

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
            "devices": self.workshop.team.ranks,
            "machine": machine_of(self.workshop.device).name,
            "plan": self.workshop.plan.values(),
            **environment(),
        }

    def _wants_pause(self) -> bool:
        self.watchdog.beat()
        return self.workshop.team.agree_now_and_then(self._word) != _Word.GO_ON

    def _word(self) -> _Word:
        """Why to pause now."""
        now = time.monotonic()
        if stopping.asked():
            return _Word.MAKE_WAY
        if now >= self._end_at:
            return _Word.TIME_IS_OVER
        if now >= self._save_at and not self.writer.is_busy:
            return _Word.SAVE
        return _Word.TELL if now >= self._glance.due else _Word.GO_ON

    def _pause(self, position: Position) -> str | None:
        """Tell how it goes, save if need be; then make way for whoever asked, or say that time is over."""
        self._glance.at(position)
        word = self.workshop.team.agree(self._word())
        if word < _Word.SAVE:
            return None
        self._save(position, best=False)
        if word == _Word.MAKE_WAY:
            self.writer.wait()
            stopping.give_way()
        if word != _Word.TIME_IS_OVER:
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
        best = _best(self.history, self.workshop)["epoch"]
        is_best = best == epoch.epoch
        self._save(Position(epoch=epoch.epoch + 1), best=is_best)
        self.run.write_history(self.history)
        progress.say(_line(epoch, self.workshop.experiment, is_best))
        self._glance.after(self.history, best)
        self._profile.epoch_ended()
        return entry

    def _save(self, position: Position, *, best: bool) -> None:
        if not self.workshop.team.leads:
            return
        begun = time.monotonic()
        with self._profile.copying():
            saved = checkpoint.snapshot(self.trainee, self.history, position, self.parts)
            self.writer.write(saved, best=best)
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
        self.is_resident = batches.is_resident
        self.chance, self.side, self.make = batches.chance, batches.side, batches.make

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        with self._tracked(epoch, first_step) as advance:
            for batch in self._batches.epoch(epoch, first_step):
                yield batch
                advance(batch.of or len(batch.labels))

    def places(self, epoch: int, first_step: int = 0) -> Iterator[NDArray[np.int64]]:
        with self._tracked(epoch, first_step) as advance:
            for places in self._batches.places(epoch, first_step):
                yield places
                advance(len(places))

    @contextmanager
    def _tracked(self, epoch: int, first_step: int) -> Iterator[progress.Advance]:
        with progress.track(f"Epoch {epoch} of {self._epochs}", total=self._batches.images) as advance:
            if first_step:
                advance(self._batches.images_before(first_step))
            yield advance


def _line(epoch: Epoch, experiment: Experiment, is_best: bool) -> str:
    """The losses, the first metric and the monitored figure; the whole is in history.json."""
    found = {"train_loss": epoch.train_loss, **{name: epoch.values[name] for name in _shown(experiment)}}
    figures = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    mark = "  ← best" if is_best else ""
    return f"Epoch {epoch.epoch}/{experiment.training.epochs}  {figures}{mark}"


def _shown(experiment: Experiment) -> list[str]:
    names = ("val_loss", f"val_{experiment.metrics[0].name}", experiment.training.monitor)
    return list(dict.fromkeys(names))


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
