"""One process's share of a training: drives the engine, keeps checkpoints, tells how it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from histoflow import files, progress, stopping
from histoflow.best import best_of, why_stop
from histoflow.counted import CountedBatches
from histoflow.data.batches import TrainBatches
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import machine_of
from histoflow.engine.fit import Epoch, Position, fit
from histoflow.engine.profile import Profile, Unprofiled
from histoflow.engine.step import Manner, Trainee
from histoflow.errors import DeviceError, DivergedError, TimeLimitError
from histoflow.experiment import Experiment
from histoflow.glance import Glance
from histoflow.runs import Run, environment, now
from histoflow.watchdog import Watchdog
from histoflow.workshop import Workshop

Entry = dict[str, Any]
"""What history.json says of one epoch."""
_SAVING_MAY_TAKE = 0.05
"""The share of the time that checkpoints within epochs may take; a slow disk gets fewer of them."""


class Word(IntEnum):
    """What a pause is for; each has the reasons before it as well."""

    GO_ON = 0
    TELL = 1
    SAVE = 2
    TIME_IS_OVER = 3
    MAKE_WAY = 4


@dataclass
class Session:
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
        self._glance = Glance(settings.epochs, len(self.batches), shown, settings.monitored, device)

    def be_profiled(self) -> None:
        """To be called before it trains."""
        name, device = self.workshop.experiment.architecture.name, self.workshop.device
        about = f"{name}, batches of {self.workshop.batch_size}, {machine_of(device).name}"
        self._profile = Profile(self.run.folder / "profile", about, device)

    def go_on_from(self, saved: checkpoint.Checkpoint) -> None:
        checkpoint.load_training(saved, self.trainee, self.workshop.device)
        self.history = [dict(entry) for entry in saved.history]
        if self.history:
            self._glance.after(self.history, best_of(self.history, self.workshop)["epoch"])
        self.position = saved.position
        self.parts = max(self.parts, saved.parts)
        self.run.write_history(self.history)  # a kill may have come between the two
        progress.say(f"Going on {_place(saved.position, len(self.batches))}, from {saved.folder}")

    def train(self) -> Generator[Entry, None, str]:
        """Add to the history until there is a reason to stop, and return it."""
        reason = self.run.read().stopped or why_stop(self.history, self.workshop)
        if reason is not None:
            return reason
        self._start_clocks()
        self.run.update(state="training", sessions=(*self.run.read().sessions, self._record()))
        for moment in self._told_of_divergence(self._moments()):
            if isinstance(moment, Position):
                reason = self._pause(moment)
            else:
                entry = self._keep(moment)
                self.watchdog.rest()
                yield entry
                reason = why_stop(self.history, self.workshop)
            if reason is not None:
                return reason
        raise AssertionError("the last epoch is always a reason to stop")

    def end(self) -> None:
        """Nothing follows: what was begun to be written is written, and what was shown is over."""
        self._glance.over()
        self.writer.wait()
        self._profile.end()

    def _told_of_divergence(self, moments: Iterator[Epoch | Position]) -> Iterator[Epoch | Position]:
        """The same; where training diverges in a step, the images of its batch are written down."""
        try:
            yield from moments
        except DivergedError as error:
            if error.step is None:
                raise
            epoch, step = error.step
            sources = self.store.split("train").sources[next(self.batches.places(epoch, step - 1))].tolist()
            path = self.run.folder / "diverged.json"
            files.write_json(path, {"epoch": epoch, "step": step, "images": sources})
            first = ", ".join(sources[:3])
            raise DivergedError(
                f"{error} The batch had {len(sources)} images, such as {first}; all stand in {path}."
            ) from error

    def _moments(self) -> Iterator[Epoch | Position]:
        settings = self.workshop.experiment.training
        validate = self.workshop.validator(self.store, self.trainee.loss, self.watchdog, self.parts)
        return fit(
            self._profile.trainee(self.trainee),
            CountedBatches(self._profile.batches(self.batches), settings.epochs),
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
        return self.workshop.team.agree_now_and_then(self._word) != Word.GO_ON

    def _word(self) -> Word:
        """Why to pause now."""
        now = time.monotonic()
        if stopping.asked():
            return Word.MAKE_WAY
        if now >= self._end_at:
            return Word.TIME_IS_OVER
        if now >= self._save_at and not self.writer.is_busy:
            return Word.SAVE
        return Word.TELL if now >= self._glance.due else Word.GO_ON

    def _pause(self, position: Position) -> str | None:
        """Tell how it goes, save if need be; then make way for whoever asked, or say that time is over."""
        self._glance.at(position)
        word = self.workshop.team.agree(self._word())
        if word < Word.SAVE:
            return None
        self._save(position, best=False)
        if word == Word.MAKE_WAY:
            self.writer.wait()
            stopping.give_way()
        if word != Word.TIME_IS_OVER:
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
        best = best_of(self.history, self.workshop)["epoch"]
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


def _line(epoch: Epoch, experiment: Experiment, is_best: bool) -> str:
    """The losses, the first metric and the monitored figure; the whole is in history.json."""
    found = {"train_loss": epoch.train_loss, **{name: epoch.values[name] for name in _shown(experiment)}}
    figures = "  ".join(f"{name} {value:.4f}" for name, value in found.items() if value is not None)
    mark = "  ← best" if is_best else ""
    return f"Epoch {epoch.epoch}/{experiment.training.epochs}  {figures}{mark}"


def _shown(experiment: Experiment) -> list[str]:
    names = ("val_loss", f"val_{experiment.metrics[0].name}", experiment.training.monitored)
    return list(dict.fromkeys(names))
