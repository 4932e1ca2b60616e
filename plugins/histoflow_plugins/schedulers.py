"""``constant``, ``step``, ``cosine``, ``cosine_restarts``, ``polynomial``, ``one_cycle`` and ``plateau``.

All but the last are closed formulas of the step number, so a training that goes on from its middle has
the very learning rates of one that was not disturbed. torch's own OneCycleLR divides by zero for some
short trainings and raises after the last step, and its cosine rises again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Scheduler, Span, hookimpl

if TYPE_CHECKING:
    from torch.optim import Optimizer as TorchOptimizer
    from torch.optim.lr_scheduler import LRScheduler


class WarmUpParams(Params):
    warm_up: float = Field(0.0, ge=0, le=1)
    """Share of the training in which the learning rate rises in a line, before all else."""


class StepParams(WarmUpParams):
    step_size: int = Field(10, ge=1)
    """Epochs between two changes."""
    gamma: float = Field(0.1, gt=0, le=1)
    """What the learning rate is multiplied by at each change."""


class CosineParams(WarmUpParams):
    floor: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate that is left at the end."""


class CosineRestartsParams(WarmUpParams):
    cycles: int = Field(3, ge=1, le=100)
    """How often the learning rate goes down, each time from the top."""
    growth: float = Field(1.0, ge=1, le=10)
    """How many times as long as the last each cycle is."""
    floor: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate that is left at the end of a cycle."""


class PolynomialParams(WarmUpParams):
    power: float = Field(1.0, gt=0, le=10)
    """1 goes down in a line; more goes down early, less goes down late."""
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


class PlateauParams(Params):
    factor: float = Field(0.1, gt=0, lt=1)
    """What the learning rate is multiplied by at each change."""
    patience: int = Field(5, ge=1)
    """Validations without a better monitored figure after which the learning rate goes down."""
    threshold: float = Field(1e-4, ge=0)
    """By how much a figure must be better to count."""
    floor: float = Field(0.0, ge=0, lt=1)
    """Share of the learning rate below which it does not go."""


def build_constant(params: WarmUpParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    return _by_formula(optimizer, _after_warm_up(params, span, _stay))


def build_step(params: StepParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    between = params.step_size * span.steps_per_epoch
    rise = _after_warm_up(params, span, _stay)
    return _by_formula(optimizer, lambda step: rise(step) * params.gamma ** (step // between))


def build_cosine(params: CosineParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    def fall(step: int, steps: int) -> float:
        return _ease(1.0, params.floor, step / steps)

    return _by_formula(optimizer, _after_warm_up(params, span, fall))


def build_cosine_restarts(params: CosineRestartsParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    def fall(step: int, steps: int) -> float:
        begin, end = _cycle(params, step, steps)
        return _ease(1.0, params.floor, (step - begin) / (end - begin))

    return _by_formula(optimizer, _after_warm_up(params, span, fall))


def build_polynomial(params: PolynomialParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    def fall(step: int, steps: int) -> float:
        return float(params.floor + (1 - params.floor) * max(0.0, 1 - step / steps) ** params.power)

    return _by_formula(optimizer, _after_warm_up(params, span, fall))


def build_one_cycle(params: OneCycleParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    steps = _steps(span)
    return _by_formula(optimizer, lambda step: params.peak * _one_cycle(params, step, steps))


def build_plateau(params: PlateauParams, optimizer: TorchOptimizer, span: Span) -> LRScheduler:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    return ReduceLROnPlateau(
        optimizer,
        factor=params.factor,
        patience=params.patience - 1,  # torch counts the validations that it lets pass
        threshold=params.threshold,
        threshold_mode="abs",
        min_lr=[params.floor * float(group["lr"]) for group in optimizer.param_groups],
        eps=0.0,
    )


def _by_formula(optimizer: TorchOptimizer, share: Callable[[int], float]) -> LRScheduler:
    """Each group's own learning rate times the share at this step, the first being step 0."""
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimizer, share)


def _after_warm_up(
    params: WarmUpParams, span: Span, shape: Callable[[int, int], float]
) -> Callable[[int], float]:
    """Up in a line, and then the shape of the step and of all steps, both counted from there."""
    warm_up = round(params.warm_up * _steps(span))
    rest = max(1, _steps(span) - warm_up)

    def share(step: int) -> float:
        return (step + 1) / (warm_up + 1) if step < warm_up else shape(step - warm_up, rest)

    return share


def _stay(step: int, steps: int) -> float:
    return 1.0


def _cycle(params: CosineRestartsParams, step: int, steps: int) -> tuple[int, int]:
    """The first step of the cycle that this step is in, and that of the next."""
    ends = list(accumulate(params.growth**cycle for cycle in range(params.cycles)))
    borders = [0, *(round(steps * end / ends[-1]) for end in ends)]
    next_one = min(bisect_right(borders, step), borders.index(steps))
    return borders[next_one - 1], borders[next_one]


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
    name="constant",
    summary="The optimizer's learning rate throughout",
    params=WarmUpParams,
    build=build_constant,
    every="step",
)

STEP = Scheduler(
    name="step",
    summary="Down by a factor every few epochs",
    params=StepParams,
    build=build_step,
    every="step",
)

COSINE = Scheduler(
    name="cosine",
    summary="Down along half a cosine, step by step",
    params=CosineParams,
    build=build_cosine,
    every="step",
)

COSINE_RESTARTS = Scheduler(
    name="cosine_restarts",
    summary="Down along half a cosine several times (Loshchilov & Hutter 2017)",
    params=CosineRestartsParams,
    build=build_cosine_restarts,
    every="step",
)

POLYNOMIAL = Scheduler(
    name="polynomial",
    summary="Down along a power of what is left of the training; a line by default",
    params=PolynomialParams,
    build=build_polynomial,
    every="step",
)

ONE_CYCLE = Scheduler(
    name="one_cycle",
    summary="Up and then far down, step by step (Smith & Topin 2018)",
    params=OneCycleParams,
    build=build_one_cycle,
    every="step",
)

PLATEAU = Scheduler(
    name="plateau",
    summary="Down by a factor where the monitored figure gets no better",
    params=PlateauParams,
    build=build_plateau,
    every="validation",
)


@hookimpl
def histoflow_schedulers() -> Iterable[Scheduler[Any]]:
    return (CONSTANT, STEP, COSINE, COSINE_RESTARTS, POLYNOMIAL, ONE_CYCLE, PLATEAU)
