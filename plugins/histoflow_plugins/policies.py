"""``random_policy``: a few changes out of many for each image, after RandAugment (Cubuk et al. 2020).

The changes are those that leave tissue tissue. What was not drawn has no strength, so each change is
made once for the whole batch whatever was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from histoflow import Params, Transform, hookimpl
from histoflow_plugins._drawing import chances, either_way
from histoflow_plugins.artefacts import smoothed
from histoflow_plugins.colour import recoloured, relit
from histoflow_plugins.geometry import warped
from histoflow_plugins.stain import restained

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from histoflow_plugins._drawing import Augment

    Strengths = Mapping[str, Tensor]

_ANY = {
    "turn": math.radians(30),
    "shear": 0.3,
    "right": 0.2,
    "down": 0.2,
    "zoom": 0.3,
    "brightness": 0.5,
    "contrast": 0.5,
    "sharpness": 1.0,
    "posterize": 4.0,
}
"""How far each change goes at magnitude 1: radians, shares, factors, and bits that are lost."""

_OF_COLOURS = {"saturation": 0.5, "hue": math.pi / 4, "stains": 0.2}


class RandomPolicyParams(Params):
    number: int = Field(2, ge=1, le=len(_ANY))
    """How many changes each image draws."""
    magnitude: float = Field(0.5, ge=0, le=1)
    """How far they go at most; 1 is as far as a pathologist might still follow."""


def build_random_policy(params: RandomPolicyParams) -> Augment:
    def random_policy(images: Tensor, generator: Generator) -> Tensor:
        strengths = _strengths(images, params, generator)
        images = _moved(images, strengths)
        if images.shape[1] == 3:
            images = _coloured(images, strengths, generator)
        images = relit(images, 1 + strengths["contrast"], 1 + strengths["brightness"])
        return _posterized(_sharpened(images, strengths["sharpness"]), strengths["posterize"])

    return random_policy


def _strengths(images: Tensor, params: RandomPolicyParams, generator: Generator) -> Strengths:
    """For each change and image, how far it goes, either way; 0 where it was not drawn."""
    limits = {**_ANY, **_OF_COLOURS} if images.shape[1] == 3 else _ANY
    rank = chances(len(limits), images, generator).argsort(dim=0).argsort(dim=0)
    amounts = params.magnitude * either_way(len(limits), images, generator) * (rank < params.number)
    return {name: limit * amount for (name, limit), amount in zip(limits.items(), amounts, strict=True)}


def _moved(images: Tensor, strengths: Strengths) -> Tensor:
    return warped(
        images,
        turn=strengths["turn"],
        shear=strengths["shear"],
        zoom=1 + strengths["zoom"],
        right=strengths["right"],
        down=strengths["down"],
    )


def _coloured(images: Tensor, strengths: Strengths, generator: Generator) -> Tensor:
    images = recoloured(images, 1 + strengths["saturation"], strengths["hue"])
    chance = either_way(6, images, generator).view(6, len(images)).T
    changes = strengths["stains"].view(-1, 1) * chance
    return restained(images, 1 + changes[:, :3], changes[:, 3:])


def _sharpened(images: Tensor, strength: Tensor) -> Tensor:
    """Below 0 it is blurred, at -1 as far as this goes."""
    import torch

    smooth = smoothed(images, torch.ones_like(strength), 1.0)
    return (images + strength * (images - smooth)).clamp(0, 1)


def _posterized(images: Tensor, lost_bits: Tensor) -> Tensor:
    import torch

    levels = (2 ** (8 - lost_bits.abs())).floor() - 1
    return torch.where(lost_bits == 0, images, (images * levels).round() / levels)


RANDOM_POLICY = Transform(
    name="random_policy",
    summary="A few out of many changes of place, colour and focus for each image",
    params=RandomPolicyParams,
    stage="augment",
    build=build_random_policy,
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (RANDOM_POLICY,)
