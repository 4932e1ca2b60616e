"""``flips``, ``right_angles``, ``rotation`` and ``color_jitter``: anew in every batch, on its device.

Each image draws for itself, all images of a batch are changed at once, and all chance comes from the
generator handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Transform, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Augment = Callable[[Tensor, Generator], Tensor]


class FlipsParams(Params):
    horizontal: float = Field(0.5, ge=0, le=1)
    """How likely left and right are swapped."""
    vertical: float = Field(0.5, ge=0, le=1)
    """How likely top and bottom are swapped."""


class RightAnglesParams(Params):
    """No choices: all turns are equally likely; images that are not square turn by 180° only."""


class RotationParams(Params):
    degrees: float = Field(15.0, ge=0, le=180)
    """Largest angle, either way; what comes in at the corners is the image mirrored."""


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


# ── Geometry ────────────────────────────────────────────────────────────────────────────────────


def build_flips(params: FlipsParams) -> Augment:
    def flips(images: Tensor, generator: Generator) -> Tensor:
        import torch

        across, over = _draw(2, images, generator)
        images = torch.where(across < params.horizontal, images.flip(3), images)
        return torch.where(over < params.vertical, images.flip(2), images)

    return flips


def build_right_angles(params: RightAnglesParams) -> Augment:
    def right_angles(images: Tensor, generator: Generator) -> Tensor:
        import torch

        square = images.shape[2] == images.shape[3]
        turns = (0, 1, 2, 3) if square else (0, 2)
        chosen = (_draw(1, images, generator)[0] * len(turns)).long()
        turned = images
        for position, turn in enumerate(turns[1:], start=1):
            turned = torch.where(chosen == position, images.rot90(turn, (2, 3)), turned)
        return turned

    return right_angles


def build_rotation(params: RotationParams) -> Augment:
    def rotation(images: Tensor, generator: Generator) -> Tensor:
        from torch.nn.functional import affine_grid, grid_sample

        angles = math.radians(params.degrees) * (2 * _draw(1, images, generator)[0] - 1)
        grid = affine_grid(_turn(angles, images), list(images.shape), align_corners=False)
        turned = grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
        return turned.clamp(0, 1)

    return rotation


def _turn(angles: Tensor, images: Tensor) -> Tensor:
    """N×2×3 matrices; the grid runs from -1 to 1 whatever the side, hence the aspect."""
    import torch

    aspect = images.shape[2] / images.shape[3]
    cos, sin = angles.flatten().cos(), angles.flatten().sin()
    zero = torch.zeros_like(cos)
    rows = [torch.stack([cos, -sin * aspect, zero], dim=1), torch.stack([sin / aspect, cos, zero], dim=1)]
    return torch.stack(rows, dim=1)


# ── Colour ──────────────────────────────────────────────────────────────────────────────────────


def build_color_jitter(params: ColorJitterParams) -> Augment:
    brightness = _given(params.brightness, params.strength)
    contrast = _given(params.contrast, params.strength)
    saturation = _given(params.saturation, params.strength)
    hue = _given(params.hue, params.strength / 4)

    def color_jitter(images: Tensor, generator: Generator) -> Tensor:
        chance = 2 * _draw(4, images, generator) - 1
        if images.shape[1] == 3:  # other images have no colours to change
            images = _change_colour(images, 1 + saturation * chance[0], 2 * math.pi * hue * chance[1])
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = mean + (images - mean) * (1 + contrast * chance[2])
        return (images * (1 + brightness * chance[3])).clamp(0, 1)

    return color_jitter


def _given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _change_colour(images: Tensor, saturation: Tensor, angle: Tensor) -> Tensor:
    """Turn and stretch each pixel's distance to grey, in RGB space around the axis of the greys."""
    grey = images.mean(dim=1, keepdim=True)
    colour = images - grey
    across = (colour.roll(1, dims=1) - colour.roll(-1, dims=1)) / math.sqrt(3)  # axis × colour
    return grey + saturation * (colour * angle.cos() + across * angle.sin())


def _draw(count: int, images: Tensor, generator: Generator) -> Tensor:
    """``count`` numbers from 0 to 1 for each image, shaped to be combined with the batch."""
    import torch

    shape = (count, len(images), 1, 1, 1)
    return torch.rand(shape, generator=generator, device=images.device, dtype=images.dtype)


FLIPS = Transform(
    name="flips",
    summary="Mirrored left to right and top to bottom",
    params=FlipsParams,
    stage="augment",
    build=build_flips,
)

RIGHT_ANGLES = Transform(
    name="right_angles",
    summary="Turned by 0, 90, 180 or 270 degrees",
    params=RightAnglesParams,
    stage="augment",
    build=build_right_angles,
)

ROTATION = Transform(
    name="rotation",
    summary="Turned by any angle up to a limit",
    params=RotationParams,
    stage="augment",
    build=build_rotation,
)

COLOR_JITTER = Transform(
    name="color_jitter",
    summary="Brightness, contrast, saturation and hue, as stains and scanners differ",
    params=ColorJitterParams,
    stage="augment",
    build=build_color_jitter,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (FLIPS, RIGHT_ANGLES, ROTATION, COLOR_JITTER)
