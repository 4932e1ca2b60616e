"""How much memory training will take, found without taking it.

On torch's meta device tensors have shapes and no content: a forward pass there costs milliseconds, and tells
what each operation keeps for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

Build = Callable[[], nn.Module]
BuildOptimizer = Callable[[nn.Module], Optimizer]

_TRIED = (2, 4)
"""Batch sizes; a single image is too few for batch norm."""
_USUAL_STATE = 2
"""Of an optimizer that will not step on the meta device: as much as Adam's, in multiples of the weights."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that training holds at the end of a forward pass, when it holds most."""

    weights: int
    """Buffers, and copies in a lower precision, included."""
    gradients: int
    optimizer: int
    activations: int
    """What is kept for the backward pass whatever the number of images."""
    per_image: int
    """What is kept for each image, itself included."""

    def kept(self, images: int) -> int:
        """For the backward pass of so many images that pass through the network together."""
        return self.activations + images * self.per_image

    def peak(self, images: int) -> int:
        return self.weights + self.gradients + self.optimizer + self.kept(images)


def footprint_of(
    build: Build,
    build_optimizer: BuildOptimizer,
    image: tuple[int, int, int],
    dtype: torch.dtype | None = None,
    copies: int = 1,
) -> Footprint:
    """Of a network on images of this shape (channels, height, width), of which there are so many copies.

    It raises what the network raises where it cannot do without content.
    """
    with torch.device("meta"):
        model = build().to("meta").train()
    weights = _bytes(model.state_dict().values())
    gradients = _bytes(_trained(model))
    optimizer = _state(model, build_optimizer)
    lower = 0 if dtype is None else gradients * dtype.itemsize // torch.float32.itemsize
    few, more = (kept_for_backward(model.to(dtype), images, image, dtype) for images in _TRIED)
    per_image = (more - few) // (_TRIED[1] - _TRIED[0])
    as_drawn = 0 if dtype is None else math.prod(image) * torch.float32.itemsize  # beside its cast copy
    return Footprint(
        weights=copies * weights + lower,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(0, few - _TRIED[0] * per_image),
        per_image=per_image + as_drawn,
    )


def kept_for_backward(
    model: nn.Module, images: int, image: tuple[int, int, int], dtype: torch.dtype | None = None
) -> int:
    """Bytes that a forward pass keeps, beside the model's own tensors; on the device where the model lies."""
    own = {_storage(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    device = next(model.parameters()).device
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[_storage(tensor)] = alone = tensor.detach()  # with its history it would never be freed
        return alone

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        batch = torch.zeros((images, *image), device=device, dtype=dtype)
        outputs = model(batch)  # alive until everything is counted, or storages would be used again
        total = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    del outputs
    return total


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _trained(model: nn.Module) -> Iterator[Tensor]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _state(model: nn.Module, build_optimizer: BuildOptimizer) -> int:
    """What the optimizer remembers, once it has taken a step."""
    optimizer = build_optimizer(model)
    try:
        _step_on_meta(model, optimizer)
    except Exception:  # whatever a stranger's optimizer does with its numbers, here are none
        return _USUAL_STATE * _bytes(_trained(model))
    finally:
        optimizer.zero_grad(set_to_none=True)
    return _bytes(_tensors_in(list(optimizer.state.values())))


def _step_on_meta(model: nn.Module, optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["fused"] = False  # fused kernels are for real devices
    for parameter in _trained(model):
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()


def _tensors_in(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        yield from _tensors_in(list(state.values()))
    elif isinstance(state, list | tuple):
        for item in state:
            yield from _tensors_in(item)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
