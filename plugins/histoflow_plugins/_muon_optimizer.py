"""Muon as a torch optimizer. torch's own takes nothing but matrices, so no kernel of a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# The quintic of Keller Jordan: five rounds bring all singular values near 1, three rounds most of them.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_LEAST_NORM = 1e-7


class Muon(Optimizer):
    """Kernels and matrices follow their momentum made orthogonal, all else Nesterov's momentum.

    Nothing in a step is read back from the device, so that it can be recorded as a CUDA graph.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        others: float,
        rounds: int,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "others": others,
            "rounds": rounds,
            "capturable": True,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        ahead = self._ahead(parameter, gradient, group["momentum"])
        if parameter.ndim >= 2:
            rate = group["lr"]
            step = orthogonal(ahead.flatten(1), group["rounds"]).view_as(parameter)
            parameter.mul_(1 - rate * group["weight_decay"])
        else:
            rate, step = group["lr"] * group["others"], ahead
        parameter.sub_(step * rate)

    def _ahead(self, parameter: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum: where the last steps and this gradient lead together."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(momentum).add_(gradient)
        return torch.add(gradient, state["momentum"], alpha=momentum)


def orthogonal(matrix: Tensor, rounds: int) -> Tensor:
    """About the nearest matrix with orthogonal rows (or columns), made larger where it is tall."""
    tall = matrix.shape[0] > matrix.shape[1]
    working = matrix.bfloat16() if matrix.is_cuda else matrix
    wide = working.T if tall else working
    wide = wide / (wide.norm() + _LEAST_NORM)
    for _ in range(rounds):
        product = wide @ wide.T
        wide = _A * wide + (_B * product + _C * product @ product) @ wide
    scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
    made: Tensor = (wide.T if tall else wide).to(matrix.dtype) * scale
    return made
