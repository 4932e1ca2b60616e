"""The built-in optimizers are torch's; the schedules are torch's where torch has one that works."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from histoflow import Optimizer, Scheduler, Span
from histoflow.testing import check_component
from histoflow_plugins.optimizers import ADAM, ADAMW, SGD, AdamParams, AdamwParams, SgdParams
from histoflow_plugins.schedulers import (
    CONSTANT,
    COSINE,
    COSINE_RESTARTS,
    ONE_CYCLE,
    PLATEAU,
    POLYNOMIAL,
    STEP,
    CosineParams,
    CosineRestartsParams,
    OneCycleParams,
    PlateauParams,
    PolynomialParams,
    StepParams,
    WarmUpParams,
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
    torch.testing.assert_close(ours, theirs)  # its fused kernels round in another way


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
def test_optimizers_use_fused_kernels_where_torch_has_them(optimizer: Optimizer[Any]) -> None:
    real, complex_ = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    groups = [{"params": [real]}, {"params": [complex_]}]
    assert optimizer.build(optimizer.params(), [real]).param_groups[0]["fused"]
    assert not any(group["fused"] for group in optimizer.build(optimizer.params(), groups).param_groups)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
def test_groups_keep_what_they_say_of_themselves(optimizer: Optimizer[Any]) -> None:
    slow, fast = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    running = optimizer.build(
        optimizer.params(lr=0.1), [{"params": [slow], "lr": 0.001}, {"params": [fast], "weight_decay": 0.5}]
    )
    assert [group["lr"] for group in running.param_groups] == [0.001, 0.1]
    assert running.param_groups[1]["weight_decay"] == 0.5


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
def test_the_learning_rate_may_be_a_tensor(optimizer: Optimizer[Any]) -> None:
    plain, filled = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    for weight in (plain, filled):
        running = optimizer.build(optimizer.params(lr=0.5), [weight])
        if weight is filled:
            running.param_groups[0]["lr"] = torch.tensor(0.5)
        for rate in (0.5, 0.25):
            weight.grad = torch.full((2,), 0.1)
            running.step()
            if weight is filled:
                running.param_groups[0]["lr"].fill_(rate / 2)
            else:
                running.param_groups[0]["lr"] = rate / 2
    torch.testing.assert_close(plain, filled)


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
        (CONSTANT, WarmUpParams()),
        (CONSTANT, WarmUpParams(warm_up=1)),
        (STEP, StepParams(step_size=2)),
        (STEP, StepParams(step_size=1, warm_up=0.5)),
        (COSINE, CosineParams()),
        (COSINE, CosineParams(floor=0.1, warm_up=0.2)),
        (COSINE_RESTARTS, CosineRestartsParams()),
        (COSINE_RESTARTS, CosineRestartsParams(cycles=100, growth=10, warm_up=0.3)),
        (POLYNOMIAL, PolynomialParams()),
        (POLYNOMIAL, PolynomialParams(power=0.5, floor=0.1, warm_up=0.9)),
        (PLATEAU, PlateauParams()),
        (PLATEAU, PlateauParams(patience=1)),
        (PLATEAU, PlateauParams(patience=2, floor=0.5, threshold=0.2)),
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
    assert _ours(CONSTANT, WarmUpParams(), Span(epochs=1, steps_per_epoch=4), 4) == [0.5] * 4


def test_step_goes_down_every_few_epochs() -> None:
    rates = _ours(STEP, StepParams(step_size=2, gamma=0.1), Span(epochs=5, steps_per_epoch=3), 15)
    assert rates == pytest.approx([0.5] * 6 + [0.05] * 6 + [0.005] * 3)


SHORT = Span(epochs=2, steps_per_epoch=5)


@pytest.mark.parametrize(
    ("scheduler", "params", "after"),
    [
        (CONSTANT, WarmUpParams(warm_up=0.3), [1] * 7),
        (STEP, StepParams(warm_up=0.3, step_size=1, gamma=0.5), [1, 1] + [0.5] * 5),
        (POLYNOMIAL, PolynomialParams(warm_up=0.3), [1 - step / 7 for step in range(7)]),
        (COSINE, CosineParams(warm_up=0.3), [(1 + math.cos(math.pi * step / 7)) / 2 for step in range(7)]),
    ],
)
def test_warm_up_rises_in_a_line_before_all_else(
    scheduler: Scheduler[Any], params: Any, after: list[float]
) -> None:
    found = _ours(scheduler, params, SHORT, 10)
    assert found == pytest.approx([0.5 * share for share in (0.25, 0.5, 0.75, *after)])


def test_polynomial_goes_down_along_a_power_to_its_floor() -> None:
    found = _ours(POLYNOMIAL, PolynomialParams(power=2, floor=0.2), Span(epochs=1, steps_per_epoch=4), 6)
    assert found == pytest.approx([0.5 * (0.2 + 0.8 * share) for share in (1, 0.5625, 0.25, 0.0625, 0, 0)])


@pytest.mark.parametrize(
    ("cycles", "growth", "lengths"), [(3, 1, (8, 8, 8)), (3, 2, (3, 7, 14)), (1, 1, (24,))]
)
def test_cosine_restarts_from_the_top(cycles: int, growth: float, lengths: tuple[int, ...]) -> None:
    params = CosineRestartsParams(cycles=cycles, growth=growth, floor=0.1)
    found = _ours(COSINE_RESTARTS, params, Span(epochs=2, steps_per_epoch=12), 26)
    expected = [
        0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * step / length)) / 2)
        for length in lengths
        for step in range(length)
    ]
    assert found == pytest.approx([*expected, 0.05, 0.05])


def test_cosine_restarts_is_that_of_torch() -> None:
    optimizer = _sgd()
    reference = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4, T_mult=2)
    expected = _rates(optimizer, reference, 28)
    params = CosineRestartsParams(cycles=3, growth=2)
    assert _ours(COSINE_RESTARTS, params, Span(epochs=4, steps_per_epoch=7), 28) == pytest.approx(expected)


def _after_validations(params: PlateauParams, figures: list[float]) -> list[float]:
    """The learning rate after each of these."""
    optimizer = _sgd()
    scheduler: Any = PLATEAU.build(params, optimizer, SHORT)
    rates = []
    for figure in figures:
        scheduler.step(figure)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_plateau_goes_down_after_so_many_validations_without_a_better_one() -> None:
    assert PLATEAU.every == "validation"
    rates = _after_validations(PlateauParams(patience=2), [1.0, 0.9, 0.9, 0.8, 0.8, 0.9, 0.8, 0.7, 0.7])
    assert rates == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.05])


def test_plateau_takes_figures_below_zero_and_counts_only_what_is_better_by_the_threshold() -> None:
    """An accuracy comes as its negative; a threshold in shares of it would then turn around."""
    params = PlateauParams(patience=1, threshold=0.05)
    assert _after_validations(params, [-0.5, -0.6, -0.62, -0.7]) == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_plateau_stays_above_its_floor() -> None:
    rates = _after_validations(PlateauParams(patience=1, factor=0.1, floor=0.05), [1.0] * 4)
    assert rates == pytest.approx([0.5, 0.05, 0.025, 0.025])


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


@pytest.mark.parametrize(
    ("scheduler", "left"), [(COSINE, 0.0), (COSINE_RESTARTS, 0.0), (POLYNOMIAL, 0.0), (ONE_CYCLE, 4e-6)]
)
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
        (WarmUpParams, {"warm_up": 1.1}),
        (CosineRestartsParams, {"cycles": 0}),
        (CosineRestartsParams, {"growth": 0.5}),
        (PolynomialParams, {"power": 0}),
        (PlateauParams, {"factor": 1}),
        (PlateauParams, {"patience": 0}),
    ],
)
def test_schedulers_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)
