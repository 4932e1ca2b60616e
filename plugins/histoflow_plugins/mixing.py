"""``mixup`` and ``cutmix``: each image of a batch together with its neighbour there.

Batches are shuffled, so the neighbour is as good as any. Each image draws for itself how much of it
stays, and all chance comes from the generator handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Transform, hookimpl
from histoflow_plugins._drawing import chances, inside

if TYPE_CHECKING:
    from torch import Generator, Tensor

    Mix = Callable[[Tensor, Generator], tuple[Tensor, Tensor, Tensor]]


class MixupParams(Params):
    alpha: float = Field(0.2, gt=0, le=10)
    """How evenly two images are mixed: shares are drawn from Beta(alpha, alpha); at 1 all are as likely."""
    probability: float = Field(1.0, ge=0, le=1)
    """How likely an image is mixed at all."""


class CutmixParams(Params):
    alpha: float = Field(1.0, gt=0, le=10)
    """How large the box is: its share is drawn from Beta(alpha, alpha); at 1 all are as likely."""
    probability: float = Field(0.5, ge=0, le=1)
    """How likely an image is mixed at all."""


def build_mixup(params: MixupParams) -> Mix:
    def mixup(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        shares = _shares(images, params.alpha, params.probability, generator)
        mixed = torch.lerp(images.roll(1, dims=0), images, shares.view(-1, 1, 1, 1).to(images.dtype))
        return mixed.clamp_(0, 1), _neighbours(images), shares

    return mixup


def build_cutmix(params: CutmixParams) -> Mix:
    def cutmix(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        import torch

        shares = _shares(images, params.alpha, params.probability, generator)
        sides = (1 - shares).sqrt().view(-1, 1, 1, 1).expand(2, -1, 1, 1, 1)
        box = inside(images, chances(2, images, generator), sides)
        # A box over the edge is smaller than was drawn: what counts is what was pasted.
        return torch.lerp(images, images.roll(1, dims=0), box), _neighbours(images), _outside(box)

    return cutmix


def _shares(images: Tensor, alpha: float, probability: float, generator: Generator) -> Tensor:
    """N: how much of each image stays; 1 for those that are not mixed."""
    import torch

    evenness = torch.full((len(images), 2), alpha, device=images.device, dtype=torch.float32)
    # torch.distributions draws its Beta by this very function, but takes no generator.
    drawn = torch._sample_dirichlet(evenness, generator=generator)[:, 0].clamp(0, 1)
    unmixed = chances(1, images, generator).flatten() >= probability
    return torch.where(unmixed, torch.ones_like(drawn), drawn)


def _neighbours(images: Tensor) -> Tensor:
    import torch

    return torch.arange(len(images), device=images.device).roll(1)


def _outside(box: Tensor) -> Tensor:
    """N: the share of each image that lies outside its box."""
    return 1 - box.float().mean(dim=(1, 2, 3))


MIXUP = Transform(
    name="mixup",
    summary="Two images shining through each other, and their labels likewise",
    params=MixupParams,
    stage="mix",
    build=build_mixup,
)

CUTMIX = Transform(
    name="cutmix",
    summary="A box of one image pasted into another, and labels by area",
    params=CutmixParams,
    stage="mix",
    build=build_cutmix,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (MIXUP, CUTMIX)
