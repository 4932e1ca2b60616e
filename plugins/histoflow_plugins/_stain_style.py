"""Reinhard's way with colours: each channel of CIELAB is moved and stretched to a wanted mean and spread."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from histoflow_plugins._colour_spaces import (
    coloured,
    constant,
    densities_of,
    in_parts,
    lab_of,
    rgb_of,
    working_type,
)
from histoflow_plugins._stain_macenko import MOST_STRETCH, Triple

_GLASS, _TISSUE = 0.1, 0.25  # mean optical density: what is between is partly tissue
_LEAST_SPREAD = 2.0  # of a and b together: less is noise of one colour


@dataclass(frozen=True)
class Reinhard:
    """Turns N×3×H×W images from 0 to 1 into such with these means and stds, and says for which it could.

    Glass is neither measured nor changed. Images come back as they were where there is too little tissue,
    too little contrast to be stretched, or next to no colour.
    """

    means: Triple
    stds: Triple
    tissue: float
    """The least share of pixels that must be tissue."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means, stds = (
            constant(wanted, images.device, working_type(images)).expand(len(images), 3)
            for wanted in (self.means, self.stds)
        )
        return restyled(images, means, stds, self.tissue)


def restyled(images: Tensor, means: Tensor, stds: Tensor, least_tissue: float) -> tuple[Tensor, Tensor]:
    """The tissue of each image brought to its row of ``means`` and ``stds``, N×3; and where that could be."""

    def work(images: Tensor, means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
        return _restyled(images, means, stds, least_tissue)

    return in_parts(work, images, means, stds)


def _restyled(images: Tensor, means: Tensor, stds: Tensor, least_tissue: float) -> tuple[Tensor, Tensor]:
    rgb = images.flatten(2)
    lab, tissue = lab_of(rgb), tissue_in(rgb)
    found_means, found_stds = style_of(lab, tissue)
    done = (tissue.mean(dim=(1, 2)) >= least_tissue) & (found_stds * MOST_STRETCH > stds).all(dim=1)
    done = done & coloured(found_means) & (found_stds[:, 1:].norm(dim=1) >= _LEAST_SPREAD)
    stretch = (stds / found_stds.clamp(min=1e-6)).unsqueeze(2)
    changed = (lab - found_means.unsqueeze(2)).mul_(stretch).add_(means.unsqueeze(2))
    return rgb_of(torch.lerp(lab, changed, tissue)).view(images.shape), done


def tissue_in(rgb: Tensor) -> Tensor:
    """N×1×P: how far each pixel is tissue and not glass, from 0 to 1."""
    density = densities_of(rgb).mean(dim=1, keepdim=True)
    return density.sub_(_GLASS).div_(_TISSUE - _GLASS).clamp_(0, 1)


def style_of(lab: Tensor, tissue: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of the tissue, both N×3."""
    total = tissue.sum(dim=2).clamp(min=1e-6)
    means = (lab @ tissue.mT).squeeze(2) / total
    apart = (lab - means.unsqueeze(2)).square_()
    return means, ((apart @ tissue.mT).squeeze(2) / total).sqrt_()


def style_in(image: Tensor) -> tuple[Triple, Triple]:
    """Mean and standard deviation of L, a and b of the tissue in one 3×H×W image."""
    rgb = image.flatten(1).unsqueeze(0)
    means, stds = style_of(lab_of(rgb), tissue_in(rgb))
    return tuple(means[0].tolist()), tuple(stds[0].tolist())
