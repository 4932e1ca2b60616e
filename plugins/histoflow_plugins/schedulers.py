"""``constant``, ``step``, ``cosine`` and ``one_cycle``.

The last two are closed formulas of the step number. torch's own OneCycleLR divides by zero for some
short trainings and raises after the last step, and its cosine rises again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Scheduler, Span, hookimpl

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LRScheduler


class StepParams(Params):
    step_size: int = Field(10, ge=1)
    """Epochs between two changes."""
    gamma: float = Field(0.1, gt=0, le=1)
    """What the learning rate is multiplied by at each change."""


class CosineParams(Params):
    floor: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate that is left at the end."""


class OneCycleParams(Params):
    peak: float = Field(1.0, gt=0, le=1000)
    """The highest learning rate, as a multiple of the optimizer's."""
    warm_up: float = Field(0.3, ge=0, le=1)
    """Share of the training in which the learning rate rises."""
    start: float = Field(0.04, gt=0, le=1)
    """Share of the peak at which training begins."""
    end: float = Field(4e-6, ge=0, le=1)
    """Share of the peak at which training ends."""


def build_constant(params: Params, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, lambda _: 1.0)


def build_step(params: StepParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    from torch.optim.lr_scheduler import StepLR

    return StepLR(optimizer, params.step_size, params.gamma)


def build_cosine(params: CosineParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    from torch.optim.lr_scheduler import LambdaLR

    steps = _steps(span)
    return LambdaLR(optimizer, lambda step: _ease(1.0, params.floor, step / steps))


def build_one_cycle(params: OneCycleParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    from torch.optim.lr_scheduler import LambdaLR

    steps = _steps(span)
    return LambdaLR(optimizer, lambda step: params.peak * _one_cycle(params, step, steps))


def _one_cycle(params: OneCycleParams, step: int, steps: int) -> float:
    """The share of the peak at this step, the first being step 0."""
    last = steps - 1
    top = params.warm_up * steps - 1
    if step < top:
        return _ease(params.start, 1.0, step / top)
    top = max(top, 0.0)
    return _ease(1.0, params.end, (step - top) / (last - top)) if last > top else 1.0


def _ease(begin: float, end: float, progress: float) -> float:
    """From begin to end along half a cosine, and no further."""
    return end + (begin - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _steps(span: Span) -> int:
    return span.epochs * span.steps_per_epoch


CONSTANT = Scheduler(
    name="constant", summary="The optimizer's learning rate throughout", params=Params, build=build_constant
)

STEP = Scheduler(
    name="step", summary="Down by a factor every few epochs", params=StepParams, build=build_step
)

COSINE = Scheduler(
    name="cosine",
    summary="Down along half a cosine, step by step",
    params=CosineParams,
    build=build_cosine,
    every="step",
)

ONE_CYCLE = Scheduler(
    name="one_cycle",
    summary="Up and then far down, step by step (Smith & Topin 2018)",
    params=OneCycleParams,
    build=build_one_cycle,
    every="step",
)


@hookimpl
def histoflow_schedulers() -> Iterable[Scheduler[Any]]:
    return (CONSTANT, STEP, COSINE, ONE_CYCLE)
