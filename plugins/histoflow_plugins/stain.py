"""Stains: ``macenko`` and ``reinhard`` make them alike, ``stain_jitter`` and ``randstain`` make them differ.

The first two are done to each image once, before packing, and so at training, evaluation and prediction
alike. The others change the images of every training batch anew; each image draws for itself, and all
chance comes from the generator handed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator

from histoflow import DataInfo, Params, Transform, hookimpl
from histoflow_plugins._drawing import chances, either_way
from histoflow_plugins._stain_target import stains_in, style_in_file, with_target
from histoflow_plugins.colour import remixed

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

    from histoflow_plugins._drawing import Augment
    from histoflow_plugins._stain_step import Step

_Absorbed = Annotated[float, Field(ge=0, le=1)]
_Coordinate = Annotated[float, Field(ge=-128, le=128)]
_Spread = Annotated[float, Field(gt=0, le=100)]
_Deviation = Annotated[float, Field(ge=0, le=100)]


def _three(*default: float) -> Any:
    return Field(default, min_length=3, max_length=3)


class MacenkoParams(Params):
    """The reference's stains; by default those of Macenko's own, which most programs use."""

    target: Path | None = None
    """An image whose stains are the reference; the experiment keeps them as the three numbers below, which
    count where they are given as well."""
    haematoxylin: tuple[_Absorbed, ...] = _three(0.5626, 0.7201, 0.4062)
    """What the reference's haematoxylin takes of red, green and blue."""
    eosin: tuple[_Absorbed, ...] = _three(0.2159, 0.8012, 0.5581)
    """What its eosin takes of them."""
    maxima: tuple[Annotated[float, Field(gt=0, le=10)], ...] = Field(
        (1.9705, 1.0308), min_length=2, max_length=2
    )
    """How much of the two its densest parts hold (99th percentile), in units of optical density."""
    alpha: float = Field(1.0, ge=0, le=20)
    """Percent of an image's tissue that may lie beyond each of its stains."""
    beta: float = Field(0.15, gt=0, le=1)
    """Optical density from which a pixel is tissue."""
    tissue: float = Field(0.05, ge=0, le=1)
    """The least share of tissue; an image with less is left as it is, and counted."""

    @model_validator(mode="before")
    @classmethod
    def _take_from_target(cls, given: Any) -> Any:
        return with_target(given, ("haematoxylin", "eosin", "maxima"), stains_in)

    @model_validator(mode="after")
    def _stains_differ(self) -> MacenkoParams:
        if not _apart(self.haematoxylin, self.eosin):
            raise ValueError(
                f"haematoxylin and eosin must be two colours that can be told apart. "
                f"Got {list(self.haematoxylin)} and {list(self.eosin)}"
            )
        return self


class ReinhardParams(Params):
    """The reference's colours in CIELAB; by default the average of NCT-CRC-HE-100K (Shen et al. 2022)."""

    target: Path | None = None
    """An image whose colours are the reference; the experiment keeps them as the two below, which count where
    they are given as well."""
    means: tuple[_Coordinate, ...] = _three(61.97, 23.19, -11.19)
    """Mean of L (0 to 100), a and b of the tissue."""
    stds: tuple[_Spread, ...] = _three(14.47, 8.13, 6.13)
    """Standard deviation of L, a and b of the tissue."""
    tissue: float = Field(0.05, ge=0, le=1)
    """The least share of tissue; an image with less is left as it is, and counted."""

    @model_validator(mode="before")
    @classmethod
    def _take_from_target(cls, given: Any) -> Any:
        return with_target(given, ("means", "stds"), style_in_file)

    @field_validator("means")
    @classmethod
    def _lightness_is_a_share(cls, means: tuple[float, ...]) -> tuple[float, ...]:
        return _checked_lightness(means)


class StainJitterParams(Params):
    """How much of each of haematoxylin, eosin and DAB is taken away or added (Tellez et al. 2018)."""

    factor: float = Field(0.05, ge=0, le=1)
    """Largest change of a stain by a factor, so that 0.05 gives 0.95 to 1.05."""
    offset: float = Field(0.05, ge=0, le=1)
    """Largest amount of a stain added or taken away everywhere, in units of optical density."""
    probability: float = Field(1.0, ge=0, le=1)
    """How likely an image is stained anew at all."""


class RandStainParams(Params):
    """How means and standard deviations of CIELAB are distributed over images.

    By default as in NCT-CRC-HE-100K, by the figures that come with RandStainNA (Shen et al. 2022).
    """

    means: tuple[_Coordinate, ...] = _three(61.97, 23.19, -11.19)
    """Average over images of their mean L (0 to 100), a and b."""
    mean_stds: tuple[_Deviation, ...] = _three(19.13, 10.96, 6.64)
    """Standard deviation over images of their means."""
    stds: tuple[_Spread, ...] = _three(14.47, 8.13, 6.13)
    """Average over images of their standard deviation of L, a and b."""
    std_stds: tuple[_Deviation, ...] = _three(5.64, 2.82, 2.01)
    """Standard deviation over images of their standard deviations."""
    strength: float = Field(0.5, ge=0, le=2)
    """What mean_stds and std_stds are multiplied by; 0 makes all images alike, 1 goes as far as they differ,
    tissue from tissue and laboratory from laboratory."""
    probability: float = Field(1.0, ge=0, le=1)
    """How likely an image is stained anew at all."""

    @field_validator("means")
    @classmethod
    def _lightness_is_a_share(cls, means: tuple[float, ...]) -> tuple[float, ...]:
        return _checked_lightness(means)


def _checked_lightness(means: tuple[float, ...]) -> tuple[float, ...]:
    if not 0 <= means[0] <= 100:
        raise ValueError(f"the mean of L must be 0 to 100. Got {means[0]}")
    return means


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two directions lie some five degrees apart or more."""
    along = sum(a * b for a, b in zip(one, other, strict=True))
    return along**2 < 0.99 * sum(a * a for a in one) * sum(b * b for b in other)


# ── Made alike ──────────────────────────────────────────────────────────────────────────────────


def build_macenko(params: MacenkoParams) -> Step:
    from histoflow_plugins._stain_macenko import Macenko, Stains
    from histoflow_plugins._stain_step import Step

    target = Stains(params.haematoxylin, params.eosin, params.maxima)
    return Step(Macenko(target, params.alpha, params.beta, params.tissue))


def build_reinhard(params: ReinhardParams) -> Step:
    from histoflow_plugins._stain_step import Step
    from histoflow_plugins._stain_style import Reinhard

    return Step(Reinhard(params.means, params.stds, params.tissue))


# ── Made to differ ──────────────────────────────────────────────────────────────────────────────

_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""What haematoxylin, eosin and DAB take of red, green and blue (Ruifrok and Johnston 2001)."""

_DARKEST = 1 / 255  # where nothing comes through the density would have no end


def build_stain_jitter(params: StainJitterParams) -> Augment:
    def stain_jitter(images: Tensor, generator: Generator) -> Tensor:
        chance = either_way(6, images, generator).view(6, len(images)).T
        happens = chances(1, images, generator)[0] < params.probability
        changed = restained(images, 1 + params.factor * chance[:, :3], params.offset * chance[:, 3:])
        return changed.where(happens, images)

    return stain_jitter


def restained(images: Tensor, factors: Tensor, offsets: Tensor) -> Tensor:
    """Each stain made ``factors`` times as dense, and denser by ``offsets``; both are N×3."""
    stains, unmixing = _stains(images.device, images.dtype)
    change = unmixing @ (factors.unsqueeze(2) * stains)  # densities → amounts → changed → densities
    light = remixed(images.clamp(min=_DARKEST).log_(), change.mT)
    return light.sub_((offsets @ stains)[:, :, None, None]).exp_().clamp_(0, 1)


@cache
def _stains(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Kept, because a recorded step of training may not copy anything to its device."""
    import torch

    stains = torch.tensor(_STAINS, dtype=torch.float64)
    stains = stains / stains.norm(dim=1, keepdim=True)
    return stains.to(device, dtype), torch.linalg.inv(stains).to(device, dtype)


_MOST_UNUSUAL = 2.5  # standard deviations; further out a normal distribution holds no stain
_LEAST_TISSUE = 0.05


def build_randstain(params: RandStainParams) -> Augment:
    from histoflow_plugins._colour_spaces import constant
    from histoflow_plugins._stain_style import restyled

    middle = params.means + params.stds
    spread = tuple(params.strength * std for std in params.mean_stds + params.std_stds)
    least = (0.0, -128.0, -128.0, *(std / 4 for std in params.stds))

    def randstain(images: Tensor, generator: Generator) -> Tensor:
        place = images.device, images.dtype
        drawn = _normal(6, images, generator).view(6, len(images)).T
        wanted = (constant(middle, *place) + drawn * constant(spread, *place)).maximum(
            constant(least, *place)
        )
        happens = chances(1, images, generator)[0] < params.probability
        changed, _ = restyled(images, wanted[:, :3], wanted[:, 3:], _LEAST_TISSUE)
        return changed.where(happens, images)

    return randstain


def _normal(count: int, images: Tensor, generator: Generator) -> Tensor:
    """``count`` numbers of a normal distribution for each image, but none that is all too unusual."""
    import torch

    shape = (count, len(images))
    drawn = torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype)
    return drawn.clamp_(-_MOST_UNUSUAL, _MOST_UNUSUAL)


# ── The components ──────────────────────────────────────────────────────────────────────────────


def _needs_colours(name: str, advice: str) -> Any:
    def check(params: Params, data: DataInfo) -> Iterable[str]:
        if data.channels != 3:
            yield (f"'{name}' takes images of 3 channels, red, green and blue. Got {data.channels}. {advice}")

    return check


MACENKO = Transform(
    name="macenko",
    summary="Each image's haematoxylin and eosin exchanged for a reference's (Macenko et al. 2009)",
    params=MacenkoParams,
    stage="preprocess",
    build=build_macenko,
    check=_needs_colours("macenko", "Leave it out."),
    may_decline=True,
)

REINHARD = Transform(
    name="reinhard",
    summary="Mean and contrast of each image's colours made those of a reference (Reinhard et al. 2001)",
    params=ReinhardParams,
    stage="preprocess",
    build=build_reinhard,
    check=_needs_colours("reinhard", "Leave it out."),
    may_decline=True,
)

STAIN_JITTER = Transform(
    name="stain_jitter",
    summary="HED jitter: more or less of haematoxylin, eosin and DAB, as laboratories differ",
    params=StainJitterParams,
    stage="augment",
    build=build_stain_jitter,
    check=_needs_colours("stain_jitter", "Use color_jitter, which takes any number."),
)

RANDSTAIN = Transform(
    name="randstain",
    summary="Each image in colours drawn from those of many laboratories (RandStainNA, Shen et al. 2022)",
    params=RandStainParams,
    stage="augment",
    build=build_randstain,
    check=_needs_colours("randstain", "Use color_jitter, which takes any number."),
)


@hookimpl
def histoflow_transforms() -> Iterable[Transform[Any]]:
    return (MACENKO, REINHARD, STAIN_JITTER, RANDSTAIN)
