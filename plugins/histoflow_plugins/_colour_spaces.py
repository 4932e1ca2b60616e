"""Colours by other measures than red, green and blue: CIELAB, as an eye sees them, and optical density.

All of it works on N×3×P, the pixels of N images in rows, and on whatever device they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
"""What linear red, green and blue of sRGB add to each of X, Y and Z; white (D65) is all of them."""

_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
"""What the cube roots of X, Y and Z add to each of L, a and b; of L, 16 are taken away."""

_EDGE = 6 / 29  # below its cube, the cube root is replaced by a line

LIGHT = 240.0
"""The level, of 255, at which nothing is taken from the light: that of glass in most scans."""


_AT_ONCE = 2**16  # pixels for each thread: what is done to so many stays in its cache

_NEARLY_BLACK = 3.0  # L of a grey whose level is 11 of 255
_NEARLY_GREY = 5.0  # distance of a and b from 0; the tissue of H&E has 20 and more


def in_parts(
    work: Callable[..., tuple[Tensor, Tensor]], images: Tensor, *others: Tensor
) -> tuple[Tensor, Tensor]:
    """``work(images, *others)`` where that could be done, else the image; on a processor few at a time."""
    if images.device.type != "cpu":
        return _where_done(work, images, *others)
    size = max(1, _AT_ONCE * torch.get_num_threads() // images[0, 0].numel()) if len(images) else 1
    parts = zip(*(torch.split(each, size) for each in (images, *others)), strict=True)
    changed, done = zip(*(_where_done(work, *part) for part in parts), strict=True)
    return (changed[0], done[0]) if len(done) == 1 else (torch.cat(changed), torch.cat(done))


def _where_done(
    work: Callable[..., tuple[Tensor, Tensor]], images: Tensor, *others: Tensor
) -> tuple[Tensor, Tensor]:
    """An image with a pixel that is no number must not spoil those beside it: it stays as it is."""
    precise = working_type(images)
    sane = images.to(precise).nan_to_num(0.0, 0.0, 0.0).clamp_(0, 1)
    changed, done = work(sane, *(other.to(precise) for other in others))
    done = done & images.isfinite().flatten(1).all(dim=1)
    return torch.where(done[:, None, None, None], changed.to(images.dtype), images), done


def working_type(images: Tensor) -> torch.dtype:
    """Half precision is too coarse for logarithms, and for directions."""
    return torch.promote_types(images.dtype, torch.float32)


def coloured(lab: Tensor) -> Tensor:
    """N: which of the colours, N×3, are neither nearly black nor nearly grey, as stained tissue is not."""
    chroma: Tensor = lab[:, 1:].norm(dim=1)
    return (lab[:, 0] >= _NEARLY_BLACK) & (chroma >= _NEARLY_GREY)


@cache
def constant(rows: tuple[Any, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kept, because a recorded step of training may not copy anything to its device."""
    return torch.tensor(rows, dtype=torch.float64).to(device, dtype)


def lab_of(rgb: Tensor) -> Tensor:
    """L from 0 to 100, a and b around 0, of sRGB from 0 to 1."""
    linear = torch.where(rgb > 0.04045, _power((rgb + 0.055) / 1.055, 2.4), rgb / 12.92)
    shares = _matrix(_to_shares(), rgb) @ linear
    roots = torch.where(shares > _EDGE**3, _power(shares, 1 / 3), shares / (3 * _EDGE**2) + 4 / 29)
    return (_matrix(_LAB, rgb) @ roots).sub_(_matrix(((16.0,), (0.0,), (0.0,)), rgb))


def rgb_of(lab: Tensor) -> Tensor:
    """sRGB from 0 to 1, the nearest to it where a screen cannot show the colour."""
    roots = _matrix(_inverse(_LAB), lab) @ (lab + _matrix(((16.0,), (0.0,), (0.0,)), lab))
    shares = torch.where(roots > _EDGE, roots**3, (roots - 4 / 29).mul_(3 * _EDGE**2))
    linear = (_matrix(_inverse(_to_shares()), lab) @ shares).clamp_(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * _power(linear, 1 / 2.4) - 0.055, 12.92 * linear).clamp_(
        0, 1
    )


def densities_of(rgb: Tensor) -> Tensor:
    """Optical densities, natural logarithm, of colours from 0 to 1; a little below 0 beyond ``LIGHT``."""
    return (rgb * (255 / LIGHT)).add_(1 / LIGHT).log_().neg_()


def rgb_through(densities: Tensor) -> Tensor:
    """The colours that let through what these optical densities leave."""
    return densities.neg().exp_().mul_(LIGHT / 255).sub_(1 / 255).clamp_(0, 1)


def _power(base: Tensor, exponent: float) -> Tensor:
    """A third of the cost of ``pow``; for what is not above 0 it is as of something very small."""
    return base.clamp(min=1e-12).log_().mul_(exponent).exp_()


def _matrix(rows: tuple[Any, ...], like: Tensor) -> Tensor:
    return constant(rows, like.device, like.dtype)


@cache
def _to_shares() -> tuple[Any, ...]:
    """Linear red, green and blue → X, Y and Z as shares of those of white."""
    return tuple(tuple(part / sum(row) for part in row) for row in _XYZ)


@cache
def _inverse(rows: tuple[Any, ...]) -> tuple[Any, ...]:
    inverse = torch.linalg.inv(torch.tensor(rows, dtype=torch.float64))
    return tuple(tuple(row) for row in inverse.tolist())
