"""What the augmentations share: how chance is drawn for each image of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Augment = Callable[[Tensor, Generator], Tensor]


def chances(count: int, images: Tensor, generator: Generator) -> Tensor:
    """``count`` numbers from 0 to 1 for each image, shaped to be combined with the batch."""
    import torch

    shape = (count, len(images), 1, 1, 1)
    dtype = images.dtype if images.is_floating_point() else torch.float32
    return torch.rand(shape, generator=generator, device=images.device, dtype=dtype)


def either_way(count: int, images: Tensor, generator: Generator) -> Tensor:
    """``count`` numbers from -1 to 1 for each image, shaped to be combined with the batch."""
    return 2 * chances(count, images, generator) - 1


def inside(images: Tensor, centre: Tensor, sides: Tensor) -> Tensor:
    """N×1×H×W: 1 for the pixels in a box for each image, as far as it lies in the image; 0 elsewhere.

    ``centre`` and ``sides`` hold two numbers for each image, down and across, as shares of the image.
    """
    down, across = (
        _between(length, dim, images, centre[dim - 2], sides[dim - 2])
        for dim, length in ((2, images.shape[2]), (3, images.shape[3]))
    )
    return down * across


def _between(length: int, dim: int, images: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    import torch

    shape = [1, 1, 1, 1]
    shape[dim] = length
    place = torch.arange(length, device=images.device).view(shape)
    first, last = ((centre + sign * side / 2) * length for sign in (-1, 1))
    return ((place >= first.round()) & (place < last.round())).to(images.dtype)
