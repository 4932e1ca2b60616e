"""Schedulers: sound learning rates over a whole training, however short, and the same after a restart."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LRScheduler

from histoflow.components import Scheduler, Span
from histoflow.testing._common import calling, expect

SPANS = (
    Span(epochs=4, steps_per_epoch=5),
    Span(epochs=1, steps_per_epoch=1),
    Span(epochs=1, steps_per_epoch=2),
)
LRS = (0.1, 0.01)
FIGURES = (1.0, 0.9, 0.9)
"""What the first validations find; all later ones find the last."""
CADENCES = ("step", "epoch", "validation")

Rates = list[tuple[float, ...]]


def check(scheduler: Scheduler[Any], params: Any) -> None:
    expect(
        scheduler.every in CADENCES,
        scheduler,
        f"every must be one of {', '.join(CADENCES)}. Got {scheduler.every!r}.",
    )
    for span in SPANS:
        rates = _run(scheduler, *_build(scheduler, params, span), range(_steps(scheduler, span)))
        _check_rates(scheduler, span, rates)
    _check_tensors(scheduler, params, SPANS[0])
    _check_resumption(scheduler, params, SPANS[0])


def _steps(scheduler: Scheduler[Any], span: Span) -> int:
    return span.epochs * (span.steps_per_epoch if scheduler.every == "step" else 1)


def _build(
    scheduler: Scheduler[Any], params: Any, span: Span, lrs: Sequence[float | Tensor] = LRS
) -> tuple[TorchOptimizer, LRScheduler]:
    optimizer = SGD([{"params": [nn.Parameter(torch.zeros(2))], "lr": lr} for lr in lrs])
    with calling(scheduler, "build"):
        built = scheduler.build(params, optimizer, span)
    expect(isinstance(built, LRScheduler), scheduler, f"build must return an LRScheduler. Got {built!r}.")
    return optimizer, built


def _run(scheduler: Scheduler[Any], optimizer: TorchOptimizer, running: LRScheduler, steps: range) -> Rates:
    """The learning rates before each of these steps and after the last."""
    rates = [_rates(optimizer)]
    for step in steps:
        optimizer.step()
        with calling(scheduler, f"step {step + 1} of {steps.stop}"):
            if scheduler.every == "validation":
                cast(Any, running).step(FIGURES[min(step, len(FIGURES) - 1)])
            else:
                running.step()
        rates.append(_rates(optimizer))
    return rates


def _rates(optimizer: TorchOptimizer) -> tuple[float, ...]:
    return tuple(float(group["lr"]) for group in optimizer.param_groups)


def _check_rates(scheduler: Scheduler[Any], span: Span, rates: Rates) -> None:
    sound = all(math.isfinite(rate) and rate >= 0 for rates_then in rates for rate in rates_then)
    expect(sound, scheduler, f"gives learning rates that are negative or not finite over {span}: {rates}.")
    used = rates[:-1]
    for group, lr in enumerate(LRS):
        expect(
            any(then[group] > 0 for then in used),
            scheduler,
            f"keeps the learning rate at 0 all through {span} for the parameters that begin at {lr}.",
        )


def _check_tensors(scheduler: Scheduler[Any], params: Any, span: Span) -> None:
    """A recorded step reads its learning rates where they stood when it was recorded."""
    steps = range(_steps(scheduler, span))
    expected = _run(scheduler, *_build(scheduler, params, span), steps)
    optimizer, running = _build(scheduler, params, span, [torch.tensor(lr) for lr in LRS])
    tensors = [group["lr"] for group in optimizer.param_groups]
    found = _run(scheduler, optimizer, running, steps)
    expect(
        all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True)),
        scheduler,
        "puts another object in the place of a learning rate that is a tensor. Fill the tensor in place.",
    )
    same = torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-6)
    expect(same, scheduler, f"gives {found} where learning rates are tensors, and {expected} where not.")


def _check_resumption(scheduler: Scheduler[Any], params: Any, span: Span) -> None:
    steps = range(_steps(scheduler, span))
    half = len(steps) // 2
    optimizer, running = _build(scheduler, params, span)
    _run(scheduler, optimizer, running, steps[:half])
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": running.state_dict()}, file)
    file.seek(0)
    other, resumed = _build(scheduler, params, span)
    with calling(scheduler, "restoring its state_dict, read with weights_only=True,"):
        states = torch.load(file, weights_only=True)
        other.load_state_dict(states["optimizer"])
        resumed.load_state_dict(states["scheduler"])
    expected = _run(scheduler, optimizer, running, steps[half:])
    found = _run(scheduler, other, resumed, steps[half:])
    expect(
        found == expected, scheduler, f"goes on with {found} after a restart, without one with {expected}."
    )
