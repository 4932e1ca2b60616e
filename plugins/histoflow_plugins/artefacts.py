"""``blur`` and ``erase``: what goes wrong in a scan, anew in every batch.

Each image draws for itself, all images of a batch are changed at once, and all chance comes from the
generator handed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Transform, hookimpl
from histoflow_plugins._drawing import chances, inside

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from histoflow_plugins._drawing import Augment


class BlurParams(Params):
    sigma: float = Field(1.0, gt=0, le=5)
    """Largest width of the Gaussian, in pixels; each image draws from 0 to this."""
    probability: float = Field(0.5, ge=0, le=1)
    """How likely an image is blurred at all."""


class EraseParams(Params):
    area: float = Field(0.2, gt=0, le=1)
    """Largest share of the image that is erased; each image draws from 0 to this."""
    probability: float = Field(0.5, ge=0, le=1)
    """How likely an image is erased in part at all."""


def build_blur(params: BlurParams) -> Augment:
    def blur(images: Tensor, generator: Generator) -> Tensor:
        happens, width = chances(2, images, generator)
        return smoothed(images, params.sigma * width * (happens < params.probability), params.sigma)

    return blur


def smoothed(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blurred by a Gaussian, each image by one of its own width, of which ``largest`` is a bound."""
    import torch

    radius = math.ceil(2.5 * largest)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (offsets / sigma.clamp(min=0.1)) ** 2).exp()  # N×1×1×width; at 0.1 all in the middle
    weights = weights / weights.sum(dim=3, keepdim=True)
    across = _averaged(images.contiguous(), weights, (radius, radius, 0, 0))
    return _averaged(across, weights.mT, (0, 0, radius, radius)).clamp_(0, 1)


def _averaged(images: Tensor, weights: Tensor, edges: tuple[int, ...]) -> Tensor:
    """Every channel of every image is a channel of one large image, averaged by itself."""
    from torch.nn.functional import conv2d, pad

    padded = pad(images, edges, mode="replicate").flatten(0, 1).unsqueeze(0)
    kernels = weights.repeat_interleave(images.shape[1], dim=0)
    return conv2d(padded, kernels, groups=len(kernels)).view(images.shape)


def build_erase(params: EraseParams) -> Augment:
    def erase(images: Tensor, generator: Generator) -> Tensor:
        import torch

        happens, share, shape, down, across = chances(5, images, generator)
        stretch = (math.log(2) * (shape - 0.5)).exp()  # sides up to 1 to 2
        side = (params.area * share).sqrt() * (happens < params.probability)
        sides = torch.stack([side * stretch, side / stretch])
        mean = images.mean(dim=(2, 3), keepdim=True)
        return torch.lerp(images, mean, inside(images, torch.stack([down, across]), sides))

    return erase


BLUR = Transform(
    name="blur",
    summary="Out of focus",
    params=BlurParams,
    stage="augment",
    build=build_blur,
)

ERASE = Transform(
    name="erase",
    summary="A box of the image covered by its mean colour",
    params=EraseParams,
    stage="augment",
    build=build_erase,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (BLUR, ERASE)
