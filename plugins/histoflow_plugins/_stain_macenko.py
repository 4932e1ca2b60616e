"""Macenko's normalisation: the two stains of each image are found, and exchanged for those of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from histoflow_plugins._colour_spaces import coloured, constant, densities_of, in_parts, lab_of, rgb_through

Triple = tuple[float, ...]

_STEEPEST = 4.0  # slopes beyond are no stain's
_DENSEST = 16.0
_BINS = 2048
_LEAST_ANGLE = 0.1  # between the stains, as a sine: closer ones cannot be told apart
MOST_STRETCH = 8.0
"""How many times stronger a faint image may become; beyond, its noise would be what one sees."""


@dataclass(frozen=True)
class Stains:
    """The colours of haematoxylin and eosin in an image, and how much of each its densest parts hold."""

    haematoxylin: Triple
    eosin: Triple
    maxima: Triple


@dataclass(frozen=True)
class Macenko:
    """Turns N×3×H×W images from 0 to 1 into those of the target, and says for which it could.

    The others come back as they were: they have too little tissue, not two stains, or next to no colour.
    """

    target: Stains
    alpha: float
    """Percent of the tissue's pixels that lie beyond each stain."""
    beta: float
    """Mean optical density of the channels from which a pixel is tissue."""
    tissue: float
    """The least share of pixels that must be tissue."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return in_parts(self._normalised, images)

    def _normalised(self, images: Tensor) -> tuple[Tensor, Tensor]:
        densities = densities_of(images.flatten(2))
        found = _measured(densities, self.alpha, self.beta)
        maxima = constant(self.target.maxima, images.device, images.dtype)
        done = (found.tissue >= self.tissue) & found.sound & (found.maxima * MOST_STRETCH > maxima).all(dim=1)
        colours = (self.target.haematoxylin, self.target.eosin)
        stains = constant(colours, images.device, images.dtype).T
        stains = stains / stains.norm(dim=0)
        change = (stains * (maxima / found.maxima).unsqueeze(1)) @ found.unmixing
        return rgb_through(change @ densities).view(images.shape), done


@dataclass(frozen=True)
class _Measured:
    stains: Tensor
    """N×3×2, each of length 1."""
    unmixing: Tensor
    """N×2×3: densities → amounts of the stains."""
    maxima: Tensor
    """N×2."""
    tissue: Tensor
    """N: the share of pixels that are tissue."""
    sound: Tensor
    """N: whether there are two stains to tell apart."""


def stains_of(image: Tensor, alpha: float, beta: float) -> Stains | None:
    """The stains of one 3×H×W image; None where there are not two to tell apart."""
    found = _measured(densities_of(image.flatten(1).unsqueeze(0)), alpha, beta)
    if not bool(found.sound):
        return None
    haematoxylin, eosin = (tuple(stain) for stain in found.stains[0].T.clamp(0, 1).tolist())
    return Stains(haematoxylin, eosin, tuple(found.maxima[0].tolist()))


def _measured(densities: Tensor, alpha: float, beta: float) -> _Measured:
    """What Macenko et al. 2009 find: the outermost directions in the plane that holds most of the density."""
    tissue = densities.sum(dim=1) >= 3 * beta
    count = tissue.sum(dim=1)
    stained = densities * tissue.unsqueeze(1)
    plane = _plane(stained, count)
    flat = plane.mT @ densities  # along the plane's first direction, and across it
    slopes = flat[:, 1] / flat[:, 0].clamp(min=1e-3)
    outermost = _percentiles(slopes, tissue, (-_STEEPEST, _STEEPEST), (alpha, 100 - alpha))
    within = torch.stack([torch.ones_like(outermost), outermost], dim=1)
    within = _haematoxylin_first(within / within.norm(dim=1, keepdim=True), plane)
    sine = within[:, 0, 0] * within[:, 1, 1] - within[:, 1, 0] * within[:, 0, 1]
    unmixing = _inverse(within, sine)
    amounts = unmixing @ flat
    both = _percentiles(amounts.flatten(0, 1), tissue.repeat_interleave(2, dim=0), (0.0, _DENSEST), (99.0,))
    return _Measured(
        stains=plane @ within,
        unmixing=unmixing @ plane.mT,
        maxima=both.view(-1, 2),
        tissue=count / tissue.shape[1],
        sound=(count > 0) & (sine.abs() >= _LEAST_ANGLE) & _has_colour(stained, count),
    )


def _has_colour(densities: Tensor, count: Tensor) -> Tensor:
    """Noise of grey or black has directions too, but no stains."""
    average = densities.sum(dim=2, keepdim=True) / count.clamp(min=1)[:, None, None]
    return coloured(lab_of(rgb_through(average)).squeeze(2))


def _plane(densities: Tensor, count: Tensor) -> Tensor:
    """N×3×2: the directions of most density, the first of them away from the light."""
    moments = densities @ densities.mT / count.clamp(min=1)[:, None, None]
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors
    plane = directions[:, :, 1:].flip(2)
    return plane * torch.where(plane.sum(dim=1, keepdim=True) < 0, -1, 1)


def _haematoxylin_first(within: Tensor, plane: Tensor) -> Tensor:
    """Haematoxylin takes more of the red light than eosin does."""
    red = plane[:, :1] @ within
    swapped = (red[..., 0] < red[..., 1]).unsqueeze(2)
    return torch.where(swapped, within.flip(2), within)


def _inverse(within: Tensor, determinant: Tensor) -> Tensor:
    """Of N 2×2 matrices; where there is none it is something finite."""
    (a, b), (c, d) = (row.unbind(dim=1) for row in within.unbind(dim=1))
    safe = torch.where(determinant.abs() < _LEAST_ANGLE, 1, determinant)
    return torch.stack([d, -b, -c, a], dim=1).view(-1, 2, 2) / safe[:, None, None]


def _percentiles(
    values: Tensor, counted: Tensor, limits: tuple[float, float], wanted: Sequence[float]
) -> Tensor:
    """N×K: those of the values of each row that are counted, to a fraction of a 2048th of the range.

    Sorting would give them exactly, at eight times the cost.
    """
    least, most = limits
    places = (values - least).mul_(_BINS / (most - least)).clamp_(0, _BINS - 1)
    places = torch.where(counted, places, _BINS).to(torch.int32)
    rows = torch.arange(len(values), device=values.device, dtype=torch.int32).unsqueeze(1)
    length = len(values) * (_BINS + 1)
    counts = torch.bincount((places + rows * (_BINS + 1)).flatten(), minlength=length)
    reached = counts.view(-1, _BINS + 1)[:, :_BINS].cumsum(dim=1)
    below = reached[:, -1:] * constant(tuple(wanted), values.device, values.dtype) / 100
    place = torch.searchsorted(reached.to(values.dtype), below).clamp_(max=_BINS - 1)
    upper = reached.gather(1, place)
    before = torch.where(place > 0, reached.gather(1, (place - 1).clamp(min=0)), 0)
    inside = (below - before) / (upper - before).clamp(min=1)
    return least + (place + inside) * ((most - least) / _BINS)
