"""The training loop, as a generator of epochs.

Its driver decides what to do with each epoch: save, show, stop (by ``break``) or prune (by not
asking for the next one). Chance inside a step, such as dropout, is seeded by (seed, epoch, step), so
training can start at any step without the state of any generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from histoflow.engine.graphs import Recorder, ResidentBatches
from histoflow.engine.step import PLAIN, Batches, Manner, Step, Taken, Trainee, chance_of, take_steps
from histoflow.errors import DivergedError

Values = Mapping[str, float | None]
Validate = Callable[[nn.Module], Values | None]
"""Figures of the model as it is; None if it was asked to end before they were found."""
Monitor = Callable[[Values], float | None]
"""The figure that a schedule may follow, turned so that smaller is better."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place within an epoch, and what its steps came to so far: all that is needed to go on there."""

    epoch: int = 1
    step: int = 0
    """Steps of this epoch that are done."""
    loss: float = 0.0
    """Summed over the images of those steps."""
    images: int = 0
    seconds: float = 0.0
    lr: float | None = None
    """At the beginning of the epoch; None where it has not begun."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch came to."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    values: Values
    """What the validation found: val_loss and the metrics; None where one is undefined."""
    lr: float | None
    seconds: float
    """Of its training steps."""
    validation_seconds: float
    images_per_second: float

    def to_data(self) -> dict[str, Any]:
        data = asdict(self)
        return {
            "epoch": data.pop("epoch"),
            "train_loss": data.pop("train_loss"),
            **data.pop("values"),
            **data,
        }


def fit(
    trainee: Trainee,
    batches: Batches,
    validate: Validate,
    *,
    seed: int,
    epochs: int,
    start: Position = Position(),
    pause: Callable[[], bool] = lambda: False,
    manner: Manner = PLAIN,
    monitor: Monitor = lambda values: values.get("val_loss"),
    mean: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> Iterator[Epoch | Position]:
    """Train, yielding after each epoch when everything is as that epoch left it.

    ``pause`` is asked after each step; where it says yes, the position is yielded, from which training
    can start again. It is yielded as well when the validation was asked to end. Where several processes
    train together, all must pause after the same steps, and ``mean`` is that of their losses.
    """
    work = _work(trainee, batches, manner, seed)
    while start.epoch <= epochs:
        if start.lr is None:
            start = replace(start, lr=float(trainee.optimizer.param_groups[0]["lr"]))
        done = yield from _train_epoch(trainee, batches, work, _Tally(start, mean), pause)
        begun = time.perf_counter()
        while (values := validate(trainee.kept)) is None:
            yield done
        _refuse_divergence(f"the val_loss of epoch {done.epoch}", values.get("val_loss"))
        _after_validation(trainee, monitor(values))
        yield Epoch(
            epoch=done.epoch,
            train_loss=done.loss / done.images if done.images else math.nan,
            values=values,
            lr=done.lr,
            seconds=done.seconds,
            validation_seconds=time.perf_counter() - begun,
            images_per_second=done.images / done.seconds,
        )
        start = Position(epoch=done.epoch + 1)


Work = Callable[[int, int], Iterator[Taken]]
"""Takes the steps of an epoch from a first one on."""


def _work(trainee: Trainee, batches: Batches, manner: Manner, seed: int) -> Work:
    device = next(trainee.model.parameters()).device
    step, reseed = Step(trainee, manner), chance_of(device)
    if manner.graphs:
        recorder = Recorder(step, cast("ResidentBatches", batches), device, reseed, manner.without_graphs)
        return partial(recorder.take_steps, seed)
    return lambda epoch, first_step: take_steps(step, batches, seed, epoch, first_step, reseed)


def _after_validation(trainee: Trainee, figure: float | None) -> None:
    if trainee.scheduler_every == "validation" and figure is not None:
        trainee.scheduler.step(figure)  # type: ignore[arg-type]  # torch types the epoch number, which this is not


class _Tally:
    """The losses since the last position. They stay on the device: reading one would wait for it."""

    def __init__(self, start: Position, mean: Callable[[Tensor], Tensor]) -> None:
        self.position = start
        self._mean = mean
        self._losses: list[Tensor] = []
        self._images: list[int] = []
        self._begin = time.perf_counter()

    def add(self, loss: Tensor, images: int) -> None:
        self._losses.append(loss)
        self._images.append(images)

    @property
    def steps(self) -> int:
        """Of the epoch that are done."""
        return self.position.step + len(self._losses)

    def go_on(self) -> None:
        """The clock of training stands while the driver works."""
        self._begin = time.perf_counter()

    def read(self) -> Position:
        """The position now; a loss that is not finite ends training."""
        losses = self._mean(torch.stack(self._losses)).tolist() if self._losses else []
        total, last = self.position.loss, self.position
        for step, (loss, images) in enumerate(zip(losses, self._images, strict=True), start=last.step + 1):
            what = f"the loss of epoch {last.epoch}, step {step},"
            _refuse_divergence(what, loss, (last.epoch, step))
            total += loss * images
        now = time.perf_counter()
        self.position = replace(
            last,
            step=last.step + len(losses),
            loss=total,
            images=last.images + sum(self._images),
            seconds=last.seconds + now - self._begin,
        )
        self._losses, self._images, self._begin = [], [], now
        return self.position


def _train_epoch(
    trainee: Trainee, batches: Batches, work: Work, tally: _Tally, pause: Callable[[], bool]
) -> Generator[Position, None, Position]:
    """Train the rest of the epoch; returns the position at its end."""
    start, each_step = tally.position, trainee.scheduler_every == "step"
    trainee.prepare(start.epoch)
    for loss, images in work(start.epoch, start.step):
        tally.add(loss, images)
        if each_step:
            trainee.scheduler.step()
        if tally.steps == len(batches):
            _at_the_end(trainee, start.epoch)
        if pause():
            yield tally.read()
            tally.go_on()
    return tally.read()


def _at_the_end(trainee: Trainee, epoch: int) -> None:
    """What follows the last step of an epoch, before anyone may pause."""
    if trainee.scheduler_every == "epoch":
        trainee.scheduler.step()
    if trainee.average:
        trainee.average.after_epoch(epoch)


def _refuse_divergence(what: str, value: float | None, step: tuple[int, int] | None = None) -> None:
    if value is not None and not math.isfinite(value):
        error = DivergedError(
            f"Training diverged: {what} is {value}. The last checkpoint is of before, and stays. "
            f"Lower optimizer.lr and train again."
        )
        error.step = step
        raise error
