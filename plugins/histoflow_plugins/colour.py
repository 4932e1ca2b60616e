"""``color_jitter`` and ``stain_jitter``: colours anew in every batch, as stains and scanners differ.

Each image draws for itself, all images of a batch are changed at once, and all chance comes from the
generator handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import DataInfo, Params, Transform, hookimpl
from histoflow_plugins._drawing import either_way

if TYPE_CHECKING:
    import torch
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


class StainJitterParams(Params):
    """How much of each of haematoxylin, eosin and DAB is taken away or added (Tellez et al. 2018)."""

    factor: float = Field(0.05, ge=0, le=1)
    """Largest change of a stain by a factor, so that 0.05 gives 0.95 to 1.05."""
    offset: float = Field(0.05, ge=0, le=1)
    """Largest amount of a stain added or taken away everywhere, in units of optical density."""


# ── Colours as seen ─────────────────────────────────────────────────────────────────────────────


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
    return _remixed(images, grey + saturation.view(-1, 1, 1) * turned)


def _remixed(images: Tensor, matrices: Tensor) -> Tensor:
    """Each pixel's channels times the matrix of its image, N×3×3."""
    pixels = images.permute(0, 2, 3, 1).flatten(1, 2)
    mixed = pixels @ matrices.mT
    return mixed.view(len(images), *images.shape[2:], 3).permute(0, 3, 1, 2)


# ── Colours as stained ──────────────────────────────────────────────────────────────────────────

_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""What haematoxylin, eosin and DAB take of red, green and blue (Ruifrok and Johnston 2001)."""

_DARKEST = 1 / 255  # where nothing comes through the density would have no end


def build_stain_jitter(params: StainJitterParams) -> Augment:
    def stain_jitter(images: Tensor, generator: Generator) -> Tensor:
        chance = either_way(6, images, generator).view(6, len(images)).T
        return restained(images, 1 + params.factor * chance[:, :3], params.offset * chance[:, 3:])

    return stain_jitter


def restained(images: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """Each stain made ``factors`` times as dense, and denser by ``offsets``; both are N×3."""
    stains, unmixing = _stains(images.device, images.dtype)
    change = unmixing @ (factors.unsqueeze(2) * stains)  # densities → amounts → changed → densities
    light = _remixed(images.clamp(min=_DARKEST).log_(), change.mT)
    return light.sub_((offsets @ stains)[:, :, None, None]).exp_().clamp_(0, 1)


@cache
def _stains(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Kept, because a recorded step of training may not copy anything to its device."""
    import torch

    stains = torch.tensor(_STAINS, dtype=torch.float64)
    stains = stains / stains.norm(dim=1, keepdim=True)
    return stains.to(device, dtype), torch.linalg.inv(stains).to(device, dtype)


def _stains_need_colours(params: StainJitterParams, data: DataInfo) -> Iterable[str]:
    if data.channels != 3:
        yield (
            f"'stain_jitter' takes images of 3 channels, red, green and blue. Got {data.channels}. "
            f"Use color_jitter, which takes any number."
        )


COLOR_JITTER = Transform(
    name="color_jitter",
    summary="Brightness, contrast, saturation and hue, as stains and scanners differ",
    params=ColorJitterParams,
    stage="augment",
    build=build_color_jitter,
)

STAIN_JITTER = Transform(
    name="stain_jitter",
    summary="More or less of haematoxylin, eosin and DAB, as laboratories differ",
    params=StainJitterParams,
    stage="augment",
    build=build_stain_jitter,
    check=_stains_need_colours,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (COLOR_JITTER, STAIN_JITTER)
