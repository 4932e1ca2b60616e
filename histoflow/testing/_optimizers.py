"""Optimizers: they go downhill, each group at its own rate, and after a restart as if there had been none."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer as TorchOptimizer

from histoflow.components import Optimizer
from histoflow.testing._common import calling, expect

STEPS = 20


def check(optimizer: Optimizer[Any], params: Any) -> None:
    weights = _weights()
    running = _build(optimizer, params, weights)
    before = _height(weights).item()
    with calling(optimizer, "taking steps"):
        _descend(running, weights)
    after = _height(weights).item()
    expect(
        after < before,
        optimizer,
        f"does not go downhill: a quadratic of {before:g} is {after:g} after {STEPS} steps.",
    )
    _check_resumption(optimizer, params, running, weights)
    _check_groups(optimizer, params)


def _weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(3, 2))]


def _build(optimizer: Optimizer[Any], params: Any, weights: list[nn.Parameter]) -> TorchOptimizer:
    with calling(optimizer, "build"):
        built = optimizer.build(params, iter(weights))
    expect(
        isinstance(built, TorchOptimizer),
        optimizer,
        f"build must return a torch.optim.Optimizer. Got {built!r}.",
    )
    expect(
        _held(built.param_groups) == _held([{"params": weights}]),
        optimizer,
        "must take all parameters. They come as an iterable that can be walked once.",
    )
    return built


def _held(groups: list[dict[str, Any]]) -> set[int]:
    return {id(weight) for group in groups for weight in group["params"]}


def _check_groups(optimizer: Optimizer[Any], params: Any) -> None:
    slow, fast = _weights(), _weights()
    with calling(optimizer, "build with parameter groups"):
        built = optimizer.build(params, iter([{"params": slow}, {"params": fast}]))
    groups = built.param_groups
    expect(
        _held(groups) == _held([{"params": slow + fast}]), optimizer, "must take all groups of parameters."
    )
    for group in groups:
        expect(
            len({id(weight) in _held([{"params": slow}]) for weight in group["params"]}) == 1,
            optimizer,
            "must keep parameter groups apart, so that each can have a learning rate of its own.",
        )
        group["lr"] *= 0.5 if id(group["params"][0]) in _held([{"params": slow}]) else 1.0
    with calling(optimizer, "taking steps with parameter groups"):
        _descend(built, slow + fast)
    expect(
        any(not torch.equal(one, other) for one, other in zip(slow, fast, strict=True)),
        optimizer,
        "moves a group in the same way at half the learning rate. Read group['lr'] in each step.",
    )


def _height(weights: list[nn.Parameter]) -> Tensor:
    return torch.stack([(weight - 1).square().sum() for weight in weights]).sum()


def _descend(running: TorchOptimizer, weights: list[nn.Parameter]) -> None:
    for _ in range(STEPS):
        running.zero_grad()
        _height(weights).backward()  # type: ignore[no-untyped-call]
        running.step()


def _check_resumption(
    optimizer: Optimizer[Any], params: Any, running: TorchOptimizer, weights: list[nn.Parameter]
) -> None:
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    file = io.BytesIO()
    torch.save(running.state_dict(), file)
    file.seek(0)
    with calling(optimizer, "restoring its state_dict, read with weights_only=True,"):
        resumed = _build(optimizer, params, copies)
        resumed.load_state_dict(torch.load(file, weights_only=True))
    _descend(running, weights)
    _descend(resumed, copies)
    same = all(torch.equal(weight, copy) for weight, copy in zip(weights, copies, strict=True))
    expect(same, optimizer, "goes another way after its state was restored. Keep all state in self.state.")
