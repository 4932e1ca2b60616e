"""The built-in optimizers are torch's; the schedules are torch's where torch has one that works."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from histoflow import Optimizer, Params, Scheduler, Span
from histoflow.testing import check_component
from histoflow_plugins.optimizers import ADAM, ADAMW, SGD, AdamParams, AdamwParams, SgdParams
from histoflow_plugins.schedulers import (
    CONSTANT,
    COSINE,
    ONE_CYCLE,
    STEP,
    CosineParams,
    OneCycleParams,
    StepParams,
)

# ── Optimizers ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("optimizer", "params"),
    [
        (SGD, SgdParams()),
        (SGD, SgdParams(lr=0.05, nesterov=True, weight_decay=1e-4)),
        (SGD, SgdParams(momentum=0)),
        (ADAM, AdamParams()),
        (ADAMW, AdamwParams()),
    ],
)
def test_optimizers_keep_the_contract(optimizer: Optimizer[Any], params: Any) -> None:
    check_component(optimizer, params)


@pytest.mark.parametrize(
    ("optimizer", "params", "reference"),
    [
        (
            SGD,
            SgdParams(lr=0.2, momentum=0.8, nesterov=True, weight_decay=0.1),
            lambda weights: torch.optim.SGD(weights, 0.2, momentum=0.8, nesterov=True, weight_decay=0.1),
        ),
        (
            ADAM,
            AdamParams(lr=0.2, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.1),
            lambda weights: torch.optim.Adam(weights, 0.2, (0.8, 0.9), 1e-3, 0.1),
        ),
        (
            ADAMW,
            AdamwParams(lr=0.2, beta1=0.8, beta2=0.9, eps=1e-3, weight_decay=0.1),
            lambda weights: torch.optim.AdamW(weights, 0.2, (0.8, 0.9), 1e-3, 0.1),
        ),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_every_parameter_reaches_torch(optimizer: Optimizer[Any], params: Any, reference: Any) -> None:
    ours, theirs = (nn.Parameter(torch.tensor([3.0, -2.0])) for _ in range(2))
    for weight, running in (
        (ours, optimizer.build(params, [ours])),
        (theirs, reference([theirs])),
    ):
        for _ in range(5):
            running.zero_grad()
            weight.square().sum().backward()
            running.step()
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (SgdParams, {"lr": 0}),
        (SgdParams, {"momentum": 1}),
        (SgdParams, {"weight_decay": -1}),
        (AdamParams, {"beta1": 1}),
        (AdamParams, {"eps": 0}),
        (AdamwParams, {"lr": -1e-3}),
        (AdamwParams, {"lr": math.nan}),
        (AdamParams, {"momentum": 0.9}),
    ],
)
def test_optimizers_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)


def test_nesterov_without_momentum_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match=r"nesterov must be false where momentum is 0\. Got true"):
        SgdParams(momentum=0, nesterov=True)


# ── Schedulers ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scheduler", "params"),
    [
        (CONSTANT, Params()),
        (STEP, StepParams(step_size=2)),
        (COSINE, CosineParams()),
        (COSINE, CosineParams(floor=0.1)),
        (ONE_CYCLE, OneCycleParams()),
        (ONE_CYCLE, OneCycleParams(peak=10, warm_up=0)),
        (ONE_CYCLE, OneCycleParams(warm_up=1)),
        (ONE_CYCLE, OneCycleParams(warm_up=0.5)),
    ],
)
def test_schedulers_keep_the_contract(scheduler: Scheduler[Any], params: Any) -> None:
    check_component(scheduler, params)


def _sgd(lr: float = 0.5) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def _rates(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[float]:
    """The learning rate of each step."""
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _ours(scheduler: Scheduler[Any], params: Any, span: Span, steps: int) -> list[float]:
    optimizer = _sgd()
    return _rates(optimizer, scheduler.build(params, optimizer, span), steps)


def test_constant_changes_nothing() -> None:
    assert _ours(CONSTANT, Params(), Span(epochs=4, steps_per_epoch=9), 4) == [0.5] * 4


def test_step_goes_down_every_few_epochs() -> None:
    assert STEP.every == "epoch"
    rates = _ours(STEP, StepParams(step_size=2, gamma=0.1), Span(epochs=5, steps_per_epoch=9), 5)
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_cosine_is_that_of_torch(floor: float) -> None:
    optimizer = _sgd()
    reference = lr_scheduler.CosineAnnealingLR(optimizer, T_max=12, eta_min=floor * 0.5)
    expected = _rates(optimizer, reference, 12)
    found = _ours(COSINE, CosineParams(floor=floor), Span(epochs=3, steps_per_epoch=4), 12)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("span", [Span(epochs=4, steps_per_epoch=5), Span(epochs=10, steps_per_epoch=37)])
@pytest.mark.parametrize("warm_up", [0.25, 0.3, 0.5])
def test_one_cycle_is_that_of_torch(span: Span, warm_up: float) -> None:
    steps = span.epochs * span.steps_per_epoch
    optimizer = _sgd()
    reference = lr_scheduler.OneCycleLR(
        optimizer, max_lr=3 * 0.5, total_steps=steps, pct_start=warm_up, cycle_momentum=False
    )
    expected = _rates(optimizer, reference, steps)
    found = _ours(ONE_CYCLE, OneCycleParams(peak=3, warm_up=warm_up), span, steps)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0.3), (2, 0.5), (4, 0.25), (10, 0.1), (3, 1.0), (3, 0.0)])
def test_one_cycle_reaches_its_peak_in_the_shortest_training(steps: int, warm_up: float) -> None:
    """torch's divides by zero where warm-up × steps is one."""
    span = Span(epochs=1, steps_per_epoch=steps)
    rates = _ours(ONE_CYCLE, OneCycleParams(warm_up=warm_up), span, steps)
    assert max(rates) == pytest.approx(0.5)


@pytest.mark.parametrize(("scheduler", "left"), [(COSINE, 0.0), (ONE_CYCLE, 4e-6)])
def test_after_the_last_step_the_learning_rate_stays_down(scheduler: Scheduler[Any], left: float) -> None:
    rates = _ours(scheduler, scheduler.params(), Span(epochs=2, steps_per_epoch=5), 20)
    assert rates[10:] == pytest.approx([0.5 * left] * 10, abs=1e-12)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (StepParams, {"step_size": 0}),
        (StepParams, {"gamma": 2}),
        (CosineParams, {"floor": -0.1}),
        (OneCycleParams, {"peak": 0}),
        (OneCycleParams, {"warm_up": 1.1}),
    ],
)
def test_schedulers_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)
