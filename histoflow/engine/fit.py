"""The training loop, as a generator of epochs.

Its driver decides what to do with each epoch: save, show, stop (by ``break``) or prune (by not
asking for the next one). Chance inside a step, such as dropout, is seeded by (seed, epoch, step), so
training can start at any epoch without the state of any generator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from histoflow.errors import DivergedError
from histoflow.seeds import Stream, derive


class Batches(Protocol):
    """The training data: images and labels of each step of an epoch, on the model's device."""

    def __len__(self) -> int: ...

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]: ...


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
class Epoch:
    """What one epoch came to."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    values: Mapping[str, float | None]
    """What the validation found: val_loss and the metrics; None where one is undefined."""
    lr: float
    seconds: float
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
    validate: Callable[[nn.Module], Mapping[str, float | None]],
    *,
    seed: int,
    epochs: int,
    first_epoch: int = 1,
) -> Iterator[Epoch]:
    """Train, yielding after each epoch when model, optimizer and scheduler are as that epoch left them."""
    for epoch in range(first_epoch, epochs + 1):
        begin = time.perf_counter()
        lr = float(trainee.optimizer.param_groups[0]["lr"])
        train_loss, images = _train_epoch(trainee, batches, seed, epoch)
        seconds = time.perf_counter() - begin
        _refuse_divergence("train_loss", train_loss, epoch)
        values = validate(trainee.model)
        _refuse_divergence("val_loss", values.get("val_loss"), epoch)
        yield Epoch(
            epoch=epoch,
            train_loss=train_loss,
            values=values,
            lr=lr,
            seconds=seconds,
            images_per_second=images / seconds,
        )


def _refuse_divergence(name: str, value: float | None, epoch: int) -> None:
    if value is not None and not math.isfinite(value):
        kept = f"The checkpoint of epoch {epoch - 1} is the last good one. " if epoch > 1 else ""
        raise DivergedError(
            f"Training diverged: the {name} of epoch {epoch} is {value}. {kept}"
            f"Lower optimizer.lr and train again."
        )


def _train_epoch(trainee: Trainee, batches: Batches, seed: int, epoch: int) -> tuple[float, int]:
    """Mean loss over the epoch's images, and how many there were."""
    trainee.model.train()
    total: Tensor | None = None
    seen = 0
    for step, (images, labels) in enumerate(batches.epoch(epoch)):
        _seed_chance(derive(seed, Stream.STEP, epoch, step), images.device)
        losses = _train_step(trainee, images, labels)
        total = losses if total is None else total + losses  # stays on the device: reading it would wait
        seen += len(labels)
    if trainee.scheduler_every == "epoch":
        trainee.scheduler.step()
    return (float(total) / seen if total is not None else math.nan), seen


def _seed_chance(seed: int, device: torch.device) -> None:
    """Seed what dropout on this device draws from. ``torch.manual_seed`` visits every backend for 0.1 ms."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _train_step(trainee: Trainee, images: Tensor, labels: Tensor) -> Tensor:
    trainee.optimizer.zero_grad(set_to_none=True)
    losses = trainee.loss(trainee.model(images), labels)
    losses.mean().backward()
    trainee.optimizer.step()
    if trainee.scheduler_every == "step":
        trainee.scheduler.step()
    total: Tensor = losses.detach().double().sum()
    return total
