"""``color_jitter``: colours anew in every batch, as stains and scanners differ.

Each image draws for itself, all images of a batch are changed at once, and all chance comes from the
generator handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Transform, hookimpl
from histoflow_plugins._drawing import either_way

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from histoflow_plugins._drawing import Augment


class ColorJitterParams(Params):
    """How much colours may change; the four parts follow ``strength`` unless they are given."""

    strength: float = Field(0.2, ge=0, le=1)
    """The one knob for all four."""
    brightness: float | None = Field(None, ge=0, le=1)
    """Largest change by a factor, so that 0.2 gives 0.8 to 1.2; null takes strength."""
    contrast: float | None = Field(None, ge=0, le=1)
    """Largest change of the distance to the image's mean; null takes strength."""
    saturation: float | None = Field(None, ge=0, le=1)
    """Largest change of the distance to grey; null takes strength."""
    hue: float | None = Field(None, ge=0, le=0.5)
    """Largest turn of the colour circle, 0.5 being the opposite colour; null takes a quarter of strength."""


def build_color_jitter(params: ColorJitterParams) -> Augment:
    brightness = _given(params.brightness, params.strength)
    contrast = _given(params.contrast, params.strength)
    saturation = _given(params.saturation, params.strength)
    hue = _given(params.hue, params.strength / 4)

    def color_jitter(images: Tensor, generator: Generator) -> Tensor:
        chance = either_way(4, images, generator)
        images = recoloured(images, 1 + saturation * chance[0], 2 * math.pi * hue * chance[1])
        return relit(images, 1 + contrast * chance[2], 1 + brightness * chance[3])

    return color_jitter


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def relit(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Stretched around the mean of each image, then made brighter; within 0 to 1."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images * (contrast * brightness) + mean * (1 - contrast) * brightness).clamp_(0, 1)


def recoloured(images: Tensor, saturation: Tensor, angle: Tensor) -> Tensor:
    """Turn and stretch each pixel's distance to grey, in RGB space around the axis of the greys.

    Images of other than three channels have no colours to change.
    """
    import torch

    if images.shape[1] != 3:
        return images
    itself = torch.eye(3, device=images.device, dtype=images.dtype)
    grey = torch.full_like(itself, 1 / 3)
    across = (itself.roll(1, dims=0) - itself.roll(-1, dims=0)) / math.sqrt(3)  # axis × colour
    turned = angle.cos().view(-1, 1, 1) * (itself - grey) + angle.sin().view(-1, 1, 1) * across
    return remixed(images, grey + saturation.view(-1, 1, 1) * turned)


def remixed(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel's channels times the matrix of its image, N×3×3."""
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2)
    mixed = pixels @ matrices.mT
    return mixed.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)


COLOR_JITTER = Transform(
    name="color_jitter",
    summary="Brightness, contrast, saturation and hue, as stains and scanners differ",
    params=ColorJitterParams,
    stage="augment",
    build=build_color_jitter,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (COLOR_JITTER,)
