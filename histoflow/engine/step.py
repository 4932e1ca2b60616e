"""One step of training: a batch through the network, and the weights follow its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from histoflow.engine.average import Average
from histoflow.engine.batch import Batch
from histoflow.seeds import Stream, series

if TYPE_CHECKING:
    from histoflow.engine.groups import Freezing


class Batches(Protocol):
    """The training data: the batch of each step of an epoch, on the model's device.

    A batch is valid until the next one is asked for.
    """

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]: ...


@dataclass
class Trainee:
    """All that training changes."""

    model: nn.Module
    loss: nn.Module
    """Returns one loss per image."""
    optimizer: Optimizer
    scheduler: LRScheduler
    scheduler_every: Literal["step", "epoch", "validation"] = "epoch"
    average: Average | None = None
    scaler: GradScaler | None = None
    freezing: Freezing | None = None
    parallel: nn.Module | None = None
    """The model wrapped so that processes exchange their gradients."""
    without_exchange: Callable[[], AbstractContextManager[object]] = nullcontext
    """Within it they do not: each adds up its own."""
    recordable: bool = False
    """Whether the optimizer's part of a step can be recorded as a CUDA graph."""

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and saved: the averaged one, once there is one."""
        return self.average.model if self.average and self.average.has_begun else self.model

    def prepare(self, epoch: int) -> None:
        """Training mode, as far as this epoch trains."""
        self.model.train()
        if self.freezing:
            self.freezing.at(epoch)


def _insist(error: Exception) -> None:
    raise error


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How each step is computed."""

    dtype: torch.dtype | None = None
    """What the network computes in under autocast; None casts nothing."""
    parts: int = 1
    """In so many parts a batch passes through the network, one after the other."""
    processes: int = 1
    """So many take each step together; the mean of their gradients is followed."""
    clip: float | None = None
    """The largest norm of the gradient."""
    graphs: bool = False
    """Record a step once, and then replay it."""
    without_graphs: Callable[[Exception], None] = _insist
    """Told why a step cannot be recorded; steps are taken one kernel at a time where it returns."""


PLAIN = Manner()
"""As one would write it by hand: nothing cast, nothing recorded."""


class Step:
    """Takes one step for each batch that it is called with; returns the mean loss, left on the device."""

    def __init__(self, trainee: Trainee, manner: Manner) -> None:
        self._trainee = trainee
        self._manner = manner
        self._forward = trainee.parallel or trainee.model
        self._weights_of: dict[tuple[int, float], Tensor] = {}
        self._parameters = [p for group in trainee.optimizer.param_groups for p in group["params"]]

    def __call__(self, batch: Batch) -> Tensor:
        mean = self.take(batch)
        self.after()
        return mean

    def take(self, batch: Batch) -> Tensor:
        """The part of a step that the device does alone."""
        self._trainee.optimizer.zero_grad(set_to_none=True)
        mean = self._gradient(batch)
        self._follow()
        return mean

    def after(self) -> None:
        """The part that counts on the host."""
        if self._trainee.average:
            self._trainee.average.after_step()

    def trained(self) -> tuple[bool, ...]:
        """Which parameters are not frozen."""
        return tuple(parameter.requires_grad for parameter in self._parameters)

    def _gradient(self, batch: Batch) -> Tensor:
        """That of the mean loss, which is returned; of several processes, the mean of what they return is."""
        if self._manner.parts == 1 and batch.of is None:
            losses = self._losses(batch)
            self._backward(losses, 1 / len(losses))
            return losses.detach().mean()
        each = (batch.of or len(batch.labels)) / self._manner.processes
        *first, last = _in_parts(batch, self._parts(int(each)))
        with self._trainee.without_exchange():
            sums = [self._part(part, 1 / each) for part in first]
        sums.append(self._part(last, 1 / each))
        return torch.stack(sums).sum() / each

    def _parts(self, images: int) -> int:
        """As many in all processes, whose batch norms may wait for one another."""
        return max(1, min(self._manner.parts, images // 2))  # batch norm cannot train on a single image

    def _part(self, part: Batch, weight: float) -> Tensor:
        losses = self._losses(part)
        self._backward(losses, weight)
        return losses.detach().sum()

    def _losses(self, batch: Batch) -> Tensor:
        """One for each image."""
        loss = self._trainee.loss
        if self._manner.dtype is None:
            outputs = self._forward(batch.images)
        else:
            with torch.autocast(batch.images.device.type, self._manner.dtype):
                outputs = self._forward(batch.images)
            outputs = outputs.float()
        losses: Tensor = loss(outputs, batch.labels)
        if batch.partners is not None and batch.shares is not None:
            losses = batch.shares * losses + (1 - batch.shares) * loss(outputs, batch.partners)
        return losses

    def _backward(self, losses: Tensor, weight: float) -> None:
        """The gradient of the losses' sum, each times the weight; a mean of its own would cost more."""
        scaler = self._trainee.scaler
        weights = self._weights(len(losses), weight, losses)
        torch.autograd.backward(scaler.scale(losses) if scaler else losses, weights)

    def _weights(self, images: int, weight: float, like: Tensor) -> Tensor:
        if (images, weight) not in self._weights_of:
            self._weights_of[images, weight] = torch.full_like(like, weight, requires_grad=False)
        return self._weights_of[images, weight]

    def _follow(self) -> None:
        scaler, optimizer = self._trainee.scaler, self._trainee.optimizer
        if self._manner.clip is not None:
            if scaler:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._manner.clip)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()


def _in_parts(batch: Batch, parts: int) -> Iterator[Batch]:
    tensors = (batch.images, batch.labels, batch.partners, batch.shares)
    columns = [[None] * parts if column is None else column.tensor_split(parts) for column in tensors]
    return (Batch(*part) for part in zip(*columns, strict=True))


Taken = tuple[Tensor, int]
"""A step that was taken: the mean loss, left on the device, and how many images it had."""


def take_steps(
    step: Step, batches: Batches, seed: int, epoch: int, first_step: int, reseed: Reseed
) -> Iterator[Taken]:
    """The rest of an epoch's steps, each once it is done."""
    seeds = series(seed, Stream.STEP, epoch)
    for number, batch in enumerate(batches.epoch(epoch, first_step), start=first_step):
        reseed(seeds(number))
        yield step(batch), batch.of or len(batch.labels)


Reseed = Callable[[int], None]


def chance_of(device: torch.device) -> Reseed:
    """Seeds what dropout on this device draws from. ``torch.manual_seed`` visits every backend for 0.1 ms."""
    if device.type != "cuda":
        return partial(_seed, [torch.default_generator])
    index = torch.cuda.current_device() if device.index is None else device.index
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return partial(_seed, [torch.default_generator, torch.cuda.default_generators[index]])


def _seed(generators: list[torch.Generator], seed: int) -> None:
    for generator in generators:
        generator.manual_seed(seed)
