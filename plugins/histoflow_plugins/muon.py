"""``muon``: an optimizer that trains convolutional networks in fewer epochs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Optimizer, Params, hookimpl, tunable

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer

    Parameters = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


class MuonParams(Params):
    """A step costs matrix products for each kernel: dear on a CPU for networks as wide as ResNets."""

    lr: float = Field(0.05, gt=0, le=100, json_schema_extra=tunable(low=5e-3, high=0.2, log=True))
    """Learning rate of kernels and matrices, whose every step has the same size."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step that goes on in the next."""
    weight_decay: float = Field(1e-3, ge=0, le=10, json_schema_extra=tunable(low=1e-5, high=1e-1, log=True))
    """Share by which kernels and matrices shrink in each step, times the learning rate."""
    others: float = Field(2.0, gt=0, le=1000)
    """Learning rate of shifts and scales, as a multiple of ``lr``."""
    rounds: int = Field(3, ge=1, le=10)
    """How often a step is made more orthogonal; five are exact enough for any use, and cost more."""


def build_muon(params: MuonParams, parameters: Parameters) -> TorchOptimizer:
    from histoflow_plugins._muon_optimizer import Muon

    return Muon(
        parameters,
        lr=params.lr,
        momentum=params.momentum,
        weight_decay=params.weight_decay,
        others=params.others,
        rounds=params.rounds,
    )


MUON = Optimizer(
    name="muon",
    summary="Momentum made orthogonal (Jordan et al. 2024)",
    params=MuonParams,
    build=build_muon,
)


@hookimpl
def histoflow_optimizers() -> Iterable[Optimizer[Any]]:
    return (MUON,)
