"""Grad-CAM (Selvaraju et al. 2017): which places of an image speak for a class.

Each channel of a network's last spatial layer is weighted with how much the class gains by it; where the sum
of all speaks for the class, it is the map. It is as coarse as that layer.

A layer may hold its places in three ways: as channels × height × width, as height × width × channels, or as a
row of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from histoflow.errors import ExplanationError

Layout = Literal["channels first", "channels last", "tokens"]


@dataclass(frozen=True)
class SpatialLayer:
    """A module whose output has a place for each part of the image."""

    name: str
    """As in ``named_modules``."""
    layout: Layout
    grid: tuple[int, int]
    """Height and width of its output."""

    def places(self, output: Tensor) -> Tensor:
        """Its output, or a gradient of it, as N×C×h×w."""
        if self.layout == "channels first":
            return output
        if self.layout == "channels last":
            return output.permute(0, 3, 1, 2)
        height, width = self.grid
        of_image = output[:, -height * width :]  # a class token comes before those of the image
        return of_image.transpose(1, 2).reshape(len(output), -1, height, width)


def spatial_layer(model: nn.Module, images: Tensor, named: str | None = None) -> SpatialLayer:
    """The last layer with places on which the outputs depend, or the one that the plugin ``named``.

    It is found by running the images, two or more, through the model.
    """
    outputs, seen = _run(model, images)
    if named is not None:
        return _as_named(named, seen, images, outputs)
    for name in reversed(seen):
        layer = _as_spatial(name, seen[name], images)
        if layer and not _may_be_attention(layer, seen, images) and _matters(layer, seen[name], outputs):
            return layer
    raise ExplanationError(
        "The network has no layer with an output for each part of the image on which its outputs depend, so "
        "there is nothing to lay over an image. If it has one, name it: spatial_layer of its Architecture."
    )


def class_maps(
    model: nn.Module, layer: SpatialLayer, images: Tensor, classes: Sequence[int], of: int
) -> Tensor:
    """For each image what speaks for its entry of ``classes``, out of so many: N×h×w from 0 to 1.

    Each map is scaled to its own highest value, and is 0 throughout where nothing speaks for the class.
    """
    outputs, seen = _run(model, images, layer.name)
    output = seen[layer.name]
    with _explaining():
        (gradient,) = torch.autograd.grad(_scores(outputs, classes, of).sum(), output)
    weights = layer.places(gradient).mean(dim=(2, 3), keepdim=True)
    maps = (weights * layer.places(output.detach())).sum(dim=1).clamp(min=0).float()
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _scores(outputs: Tensor, classes: Sequence[int], of: int) -> Tensor:
    """The raw output that is high where the image is of its class."""
    if outputs.shape[1] == of:
        return outputs[torch.arange(len(outputs)), torch.tensor(classes, device=outputs.device)]
    if outputs.shape[1] == 1 and of == 2:
        return outputs[:, 0] * torch.tensor([1 if one else -1 for one in classes], device=outputs.device)
    raise ExplanationError(
        f"The network has {outputs.shape[1]} outputs for {of} classes, and none of them stands for a class "
        f"alone, so nothing tells which places speak for one."
    )


# ── Finding the layer ───────────────────────────────────────────────────────────────────────────


def _run(model: nn.Module, images: Tensor, only: str | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs, and what each module (or ``only`` one) gave when it was last called, in that order.

    The images get a gradient, as that of a frozen layer's output has no other origin; and no number is
    rounded to 16 bits, in which small gradients vanish.
    """
    with torch.enable_grad(), _explaining(), _noting(model, only) as seen:
        outputs: Tensor = model(images.detach().requires_grad_().clone())
    return outputs, seen


@contextmanager
def _explaining() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ExplanationError(
            f"The network cannot tell how its outputs depend on its layers: {error}. Have it change "
            f"nothing in place that a gradient needs, or do without: evaluation.gallery=0."
        ) from error


@contextmanager
def _noting(model: nn.Module, only: str | None) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}

    def note(name: str, output: object) -> None:
        seen.pop(name, None)
        if isinstance(output, Tensor):
            seen[name] = output

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if only in (None, name)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _as_named(name: str, seen: dict[str, Tensor], images: Tensor, outputs: Tensor) -> SpatialLayer:
    if name not in seen:
        raise ExplanationError(
            f"The spatial_layer of the architecture must name a module that its network calls and that "
            f"gives a tensor. Got {name!r}. The last of them: {', '.join(list(seen)[-5:])}."
        )
    layer = _as_spatial(name, seen[name], images)
    if layer is None:
        raise ExplanationError(
            f"The spatial_layer {name!r} of the architecture must give N×C×h×w, N×h×w×C, or N×tokens×C, with "
            f"more than one place each way. For images of {tuple(images.shape)} it gives "
            f"{tuple(seen[name].shape)}."
        )
    if not _matters(layer, seen[name], outputs):
        raise ExplanationError(
            f"The spatial_layer of the architecture must be one on whose places the outputs depend. "
            f"Got {name!r}, on which they do not. Name another, or none, and it is searched for."
        )
    return layer


def _as_spatial(name: str, output: Tensor, images: Tensor) -> SpatialLayer | None:
    """How this output holds its places; None where it has none."""
    shape, sides = tuple(output.shape), (images.shape[2], images.shape[3])
    if not shape or shape[0] != len(images):
        return None
    if len(shape) == 4 and _fits(shape[2:], sides):
        return SpatialLayer(name, "channels first", (shape[2], shape[3]))
    if len(shape) == 4 and _fits(shape[1:3], sides):
        return SpatialLayer(name, "channels last", (shape[1], shape[2]))
    grid = _grid_of_tokens(shape[1], sides) if len(shape) == 3 else None
    return SpatialLayer(name, "tokens", grid) if grid else None


def _may_be_attention(layer: SpatialLayer, seen: dict[str, Tensor], images: Tensor) -> bool:
    """Whether this is how much each token looks at each other one, heads × tokens × tokens.

    Where there are tokens, a grid of as many places each way is none of the image, nor is one that does not
    divide it.
    """
    counts = {output.shape[1] for output in seen.values() if output.ndim == 3 and len(output) == len(images)}
    if layer.layout == "tokens" or not counts:
        return False
    height, width = layer.grid
    of_tokens = height == width and not counts.isdisjoint((height, height + 1))
    return of_tokens or not all(map(_divides, layer.grid, images.shape[2:]))


def _divides(places: int, side: int) -> bool:
    """Whether they are as many as the side has whole strides, rounded either way."""
    return any(places in (side // stride, -(-side // stride)) for stride in range(1, side + 1))


def _fits(grid: Sequence[int], sides: tuple[int, int]) -> bool:
    """Whether this is the image made smaller, as far as rounding tells."""
    (height, width), (full_height, full_width) = grid, sides
    if not (1 < height <= full_height and 1 < width <= full_width):
        return False
    return abs(height * full_width - width * full_height) <= max(sides)


def _grid_of_tokens(tokens: int, sides: tuple[int, int]) -> tuple[int, int] | None:
    """Their height and width, with or without a token of the class before them."""
    for places in (tokens, tokens - 1):
        height = max(1, round(math.sqrt(places * sides[0] / sides[1])))
        grid = (height, places // height)
        if height * grid[1] == places and _fits(grid, sides):
            return grid
    return None


def _matters(layer: SpatialLayer, output: Tensor, outputs: Tensor) -> bool:
    """Whether the outputs depend on the image's places here, and not on a token of the class alone."""
    if not (output.requires_grad and outputs.requires_grad):
        return False
    # Different weights for each output: where outputs always sum to one, their sum depends on nothing.
    mixed = (outputs * torch.arange(1, outputs.shape[1] + 1, device=outputs.device)).sum()
    with _explaining():
        (gradient,) = torch.autograd.grad(mixed, output, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(layer.places(gradient).any())
