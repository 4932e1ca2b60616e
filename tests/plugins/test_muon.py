"""Muon makes its steps orthogonal, and keeps the contract of optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from histoflow.experiment import parse
from histoflow.testing import check_component
from histoflow_plugins._muon_optimizer import orthogonal
from histoflow_plugins.muon import MUON, MuonParams


@pytest.mark.parametrize("params", [MuonParams(), MuonParams(lr=0.1, momentum=0, rounds=5)])
def test_muon_keeps_the_contract(params: MuonParams) -> None:
    check_component(MUON, params)


@pytest.mark.parametrize("shape", [(16, 27), (27, 16), (20, 20)])
def test_steps_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix, rounds=5)) / max(1, shape[0] / shape[1]) ** 0.5
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_step_has_the_directions_of_its_gradient() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = left.T @ orthogonal(matrix, rounds=5) @ right.T
    torch.testing.assert_close(aligned, torch.diag(aligned.diagonal()), atol=1e-4, rtol=0)
    assert aligned.diagonal().min() > 0


def test_a_gradient_of_zeros_moves_nothing() -> None:
    kernel = nn.Parameter(torch.ones(4, 3, 3, 3))
    running = MUON.build(MuonParams(weight_decay=0), [kernel])
    kernel.grad = torch.zeros_like(kernel)
    running.step()
    assert torch.equal(kernel, torch.ones_like(kernel))


def test_the_size_of_the_gradient_does_not_matter_to_a_kernel() -> None:
    moved = [_one_step(torch.ones(4, 2, 3, 3).cumsum(0) * size) for size in (1.0, 1000.0)]
    torch.testing.assert_close(*moved)


def test_kernels_and_the_rest_have_rates_of_their_own() -> None:
    shift = nn.Parameter(torch.zeros(3))
    running = MUON.build(MuonParams(lr=0.1, others=0.5, momentum=0), [shift])
    shift.grad = torch.full((3,), 2.0)
    running.step()
    torch.testing.assert_close(shift.detach(), torch.full((3,), -0.1))


def test_weight_decay_is_that_of_kernels_alone() -> None:
    kernel, shift = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    running = MUON.build(MuonParams(lr=0.1, weight_decay=0.5), [kernel, shift])
    kernel.grad, shift.grad = torch.zeros(2, 2), torch.zeros(2)
    running.step()
    torch.testing.assert_close(kernel.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(shift, torch.ones(2))


def test_the_learning_rate_may_be_a_tensor() -> None:
    gradient = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_one_step(gradient), _one_step(gradient, rate=torch.tensor(0.05)))


def test_the_memory_format_of_kernels_stays() -> None:
    kernel = nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last))
    running = MUON.build(MuonParams(), [kernel])
    kernel.grad = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    running.step()
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_frozen_parameters_stay_as_they_are() -> None:
    frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    running = MUON.build(MuonParams(), [frozen])
    running.step()
    assert torch.equal(frozen, torch.ones(2, 2))
    assert not running.state


def test_an_experiment_builds_it_with_its_parameters() -> None:
    chosen = parse({"dataset": "tissue", "optimizer": {"name": "muon", "lr": 0.1, "rounds": 4}}).optimizer
    (group,) = MUON.build(chosen, [nn.Parameter(torch.ones(2, 2))]).param_groups
    assert (group["lr"], group["rounds"]) == (0.1, 4)


def _one_step(gradient: torch.Tensor, rate: Any = None) -> torch.Tensor:
    kernel = nn.Parameter(torch.zeros_like(gradient))
    running = MUON.build(MuonParams(), [kernel])
    if rate is not None:
        running.param_groups[0]["lr"] = rate
    kernel.grad = gradient
    running.step()
    return kernel.detach()
