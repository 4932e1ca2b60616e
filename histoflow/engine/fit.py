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
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from histoflow.errors import DivergedError
from histoflow.seeds import Stream, derive

Values = Mapping[str, float | None]
Validate = Callable[[nn.Module], Values | None]
"""Figures of the model as it is; None if it was asked to end before they were found."""


class Batches(Protocol):
    """The training data: images and labels of each step of an epoch, on the model's device."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass
class Trainee:
    """All that training changes."""

    model: nn.Module
    loss: nn.Module
    """Returns one loss per image."""
    optimizer: Optimizer
    scheduler: LRScheduler
    scheduler_every: Literal["epoch", "step"] = "epoch"


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
    parts: int = 1,
) -> Iterator[Epoch | Position]:
    """Train, yielding after each epoch when model, optimizer and scheduler are as that epoch left them.

    ``pause`` is asked after each step; where it says yes, the position is yielded, from which training
    can start again. It is yielded as well when the validation was asked to end. In ``parts``, each
    batch passes through the network one part after the other, which takes less memory.
    """
    while start.epoch <= epochs:
        if start.lr is None:
            start = replace(start, lr=float(trainee.optimizer.param_groups[0]["lr"]))
        done = yield from _train_epoch(trainee, batches, seed, start, pause, parts)
        train_loss = done.loss / done.images if done.images else math.nan
        begun = time.perf_counter()
        while (values := validate(trainee.model)) is None:
            yield done
        _refuse_divergence(f"the val_loss of epoch {done.epoch}", values.get("val_loss"))
        yield Epoch(
            epoch=done.epoch,
            train_loss=train_loss,
            values=values,
            lr=done.lr,
            seconds=done.seconds,
            validation_seconds=time.perf_counter() - begun,
            images_per_second=done.images / done.seconds,
        )
        start = Position(epoch=done.epoch + 1)


class _Tally:
    """The losses since the last position. They stay on the device: reading one would wait for it."""

    def __init__(self, start: Position) -> None:
        self.position = start
        self._losses: list[Tensor] = []
        self._images = 0
        self._begin = time.perf_counter()

    def add(self, loss: Tensor, images: int) -> None:
        self._losses.append(loss)
        self._images += images

    def read(self) -> Position:
        """The position now; a loss that is not finite ends training."""
        losses = torch.stack(self._losses).tolist() if self._losses else []
        total, last = self.position.loss, self.position
        for step, loss in enumerate(losses, start=last.step + 1):
            _refuse_divergence(f"the loss of epoch {last.epoch}, step {step},", loss)
            total += loss
        now = time.perf_counter()
        self.position = replace(
            last,
            step=last.step + len(losses),
            loss=total,
            images=last.images + self._images,
            seconds=last.seconds + now - self._begin,
        )
        self._losses, self._images, self._begin = [], 0, now
        return self.position


def _train_epoch(
    trainee: Trainee, batches: Batches, seed: int, start: Position, pause: Callable[[], bool], parts: int
) -> Generator[Position, None, Position]:
    """Train the rest of the epoch; returns the position at its end."""
    trainee.model.train()
    tally = _Tally(start)
    for step, (images, labels) in enumerate(batches.epoch(start.epoch, start.step), start=start.step):
        _seed_chance(derive(seed, Stream.STEP, start.epoch, step), images.device)
        tally.add(_train_step(trainee, images, labels, parts), len(labels))
        if trainee.scheduler_every == "step" or step == len(batches) - 1:
            trainee.scheduler.step()
        if pause():
            yield tally.read()
    return tally.read()


def _refuse_divergence(what: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise DivergedError(
            f"Training diverged: {what} is {value}. The last checkpoint is of before, and stays. "
            f"Lower optimizer.lr and train again."
        )


def _seed_chance(seed: int, device: torch.device) -> None:
    """Seed what dropout on this device draws from. ``torch.manual_seed`` visits every backend for 0.1 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


def _train_step(trainee: Trainee, images: Tensor, labels: Tensor, parts: int) -> Tensor:
    trainee.optimizer.zero_grad(set_to_none=True)
    if parts == 1:
        losses = trainee.loss(trainee.model(images), labels)
        losses.mean().backward()
        total: Tensor = losses.detach().double().sum()
    else:
        total = _accumulate(trainee, images, labels, parts)
    trainee.optimizer.step()
    return total


def _accumulate(trainee: Trainee, images: Tensor, labels: Tensor, parts: int) -> Tensor:
    """The gradient of the whole batch, from one part of it after the other."""
    totals = []
    parts = max(1, min(parts, len(labels) // 2))  # batch norm cannot train on a single image
    for some_images, some_labels in zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True):
        losses = trainee.loss(trainee.model(some_images), some_labels)
        (losses.sum() / len(labels)).backward()
        totals.append(losses.detach().double().sum())
    return torch.stack(totals).sum()
