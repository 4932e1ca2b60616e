"""``flips``, ``right_angles``, ``rotation`` and ``shift_scale``: anew in every batch, on its device.

Each image draws for itself, and all chance comes from the generator handed in. On a GPU nothing
depends on the values drawn but the values, so that a whole step of training can be recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from histoflow import Params, Transform, hookimpl
from histoflow_plugins._drawing import chances, either_way

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from histoflow_plugins._drawing import Augment

    Pixels = NDArray[np.void]


_SMALL = 64
"""Pixels; up to this side of an image numpy is faster than torch in moving it."""


class View(NamedTuple):
    """One and the same way to see an image, N or no N, for two libraries."""

    of_tensor: Callable[[Tensor], Tensor]
    of_array: Callable[[Pixels], Pixels]


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


class ShiftScaleParams(Params):
    shift: float = Field(0.1, ge=0, le=0.5)
    """Largest move in each direction, as a share of the side; what comes in is the image mirrored."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Largest zoom by a factor, so that 0.1 gives 0.9 to 1.1."""


# ── Moving whole pixels ─────────────────────────────────────────────────────────────────────────


def build_flips(params: FlipsParams) -> Augment:
    views = [
        View(lambda images: images, lambda images: images),
        View(lambda images: images.flip(-1), lambda images: images[..., ::-1]),
        View(lambda images: images.flip(-2), lambda images: images[..., ::-1, :]),
        View(lambda images: images.flip(-2, -1), lambda images: images[..., ::-1, ::-1]),
    ]

    def flips(images: Tensor, generator: Generator) -> Tensor:
        across, over = chances(2, images, generator)
        return _each_its_own(images, views, (across < params.horizontal) + 2 * (over < params.vertical))

    return flips


def build_right_angles(params: RightAnglesParams) -> Augment:
    views = [
        View(lambda images: images, lambda images: images),
        View(lambda images: images.rot90(2, (-2, -1)), lambda images: images[..., ::-1, ::-1]),
        View(lambda images: images.rot90(1, (-2, -1)), lambda images: images.swapaxes(-1, -2)[..., ::-1, :]),
        View(lambda images: images.rot90(3, (-2, -1)), lambda images: images.swapaxes(-1, -2)[..., ::-1]),
    ]

    def right_angles(images: Tensor, generator: Generator) -> Tensor:
        possible = 4 if images.shape[2] == images.shape[3] else 2
        drawn = (chances(1, images, generator)[0] * possible).long()
        return _each_its_own(images, views[:possible], drawn)

    return right_angles


def _each_its_own(images: Tensor, views: Sequence[View], drawn: Tensor) -> Tensor:
    """Each image in the view whose number was drawn for it; the first view is the image as it is."""
    if _takes_one_by_one(images.device):
        take = _small_ones if min(images.shape[2:]) <= _SMALL else _large_ones
        return take(images, views, drawn.flatten().tolist())
    import torch

    seen = images
    for number, view in enumerate(views[1:], start=1):
        seen = torch.where(drawn == number, view.of_tensor(images), seen)
    return seen


def _takes_one_by_one(device: torch.device) -> bool:
    return device.type == "cpu"


# One image stays in the processor's cache; what the whole batch is made of three times does not.


def _large_ones(images: Tensor, views: Sequence[View], drawn: Sequence[int]) -> Tensor:
    import torch

    seen = torch.empty_like(images)
    for image, place, number in zip(images.unbind(), seen.unbind(), drawn, strict=True):
        place.copy_(views[number].of_tensor(image))
    return seen


def _small_ones(images: Tensor, views: Sequence[View], drawn: Sequence[int]) -> Tensor:
    """By numpy, which calls sooner, and moves the channels of a pixel as one item."""
    import numpy as np
    import torch

    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    moved = np.empty_like(pixels)
    whole_pixel = np.dtype((np.void, pixels.itemsize * pixels.shape[3]))
    seen = moved.view(whole_pixel)[..., 0]
    for place, (image, number) in enumerate(zip(pixels.view(whole_pixel)[..., 0], drawn, strict=True)):
        seen[place] = views[number].of_array(image)
    return torch.from_numpy(moved).permute(0, 3, 1, 2)


# ── Moving between pixels ───────────────────────────────────────────────────────────────────────


def build_rotation(params: RotationParams) -> Augment:
    def rotation(images: Tensor, generator: Generator) -> Tensor:
        return warped(images, turn=math.radians(params.degrees) * either_way(1, images, generator)[0])

    return rotation


def build_shift_scale(params: ShiftScaleParams) -> Augment:
    def shift_scale(images: Tensor, generator: Generator) -> Tensor:
        right, down, zoom = either_way(3, images, generator)
        return warped(
            images, right=params.shift * right, down=params.shift * down, zoom=1 + params.scale * zoom
        )

    return shift_scale


def warped(
    images: Tensor,
    *,
    turn: Tensor | float = 0.0,
    shear: Tensor | float = 0.0,
    zoom: Tensor | float = 1.0,
    right: Tensor | float = 0.0,
    down: Tensor | float = 0.0,
) -> Tensor:
    """Turned (radians), sheared, zoomed and moved (shares of the side), each image by its own numbers."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    numbers = images.new_zeros(5, len(images))
    for row, value in zip(numbers, (turn, shear, zoom, right, down), strict=True):
        if isinstance(value, torch.Tensor):
            row.copy_(value.flatten())
        else:
            row.fill_(value)
    grid = affine_grid(_matrices(numbers, images), list(images.shape), align_corners=False)
    return grid_sample(images, grid, "bilinear", "reflection", align_corners=False).clamp(0, 1)


def _matrices(numbers: Tensor, images: Tensor) -> Tensor:
    """N×2×3: where in the old image each pixel comes from.

    The grid runs from -1 to 1 whatever the side, hence the aspect, and hence two for a whole side.
    """
    import torch

    turn, shear, zoom, right, down = numbers
    aspect = images.shape[2] / images.shape[3]
    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    rows = [(cos, (cos * shear - sin) * aspect), (sin / aspect, sin * shear + cos)]
    return torch.stack([torch.stack([a, b, -2 * (a * right + b * down)], dim=1) for a, b in rows], dim=1)


FLIPS = Transform(
    name="flips",
    summary="Mirrored left to right and top to bottom",
    params=FlipsParams,
    stage="augment",
    takes_bytes=True,
    build=build_flips,
)

RIGHT_ANGLES = Transform(
    name="right_angles",
    summary="Turned by 0, 90, 180 or 270 degrees",
    params=RightAnglesParams,
    stage="augment",
    takes_bytes=True,
    build=build_right_angles,
)

ROTATION = Transform(
    name="rotation",
    summary="Turned by any angle up to a limit",
    params=RotationParams,
    stage="augment",
    build=build_rotation,
)

SHIFT_SCALE = Transform(
    name="shift_scale",
    summary="Moved and zoomed a little, as if cut from the slide elsewhere",
    params=ShiftScaleParams,
    stage="augment",
    build=build_shift_scale,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (FLIPS, RIGHT_ANGLES, ROTATION, SHIFT_SCALE)
