"""Weights averaged over the course of training, which often judge better than those of the last step."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn


class Average:
    """A second model whose weights follow the trained one's.

    ``ema``: after each step, ``decay`` of the average stays, less in the first steps. ``swa``: the mean of
    the weights at the ends of the epochs after ``begin``. The running statistics of batch norms are averaged
    in the same way, so that the averaged model can be used as it is.
    """

    def __init__(
        self, model: nn.Module, kind: Literal["ema", "swa"], *, decay: float = 0.999, begin: int = 0
    ) -> None:
        self.kind = kind
        self.model = deepcopy(model).requires_grad_(False)
        self.count = 0
        """How many states of the trained model have gone in."""
        self._decay, self._begin = decay, begin
        self._floats, self._others = _by_kind(self.model)
        self._followed, self._counted = _by_kind(model)

    @property
    def has_begun(self) -> bool:
        return self.count > 0

    def after_step(self) -> None:
        if self.kind == "ema":
            self._add(keep=min(self._decay, (1 + self.count) / (10 + self.count)))

    def after_epoch(self, epoch: int) -> None:
        if self.kind == "swa" and epoch > self._begin:
            self._add(keep=self.count / (self.count + 1))

    @torch.no_grad()
    def _add(self, keep: float) -> None:
        if self._floats:
            torch._foreach_lerp_(self._floats, self._followed, 1 - keep)
        for mine, theirs in zip(self._others, self._counted, strict=True):
            mine.copy_(theirs)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """Beside the averaged model's weights."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = int(state["count"])


def _by_kind(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that can be averaged, and the counters that cannot."""
    once = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}  # some may be shared
    tensors = [tensor.detach() for tensor in once.values()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floats, [tensor for tensor in tensors if not tensor.is_floating_point()]
