"""What other scanners and laboratories do to images: stain, focus, compression, light and noise.

Each works on a batch, N×C×H×W, floats from 0 to 1 or uint8, on its device, and gives floats from 0 to 1. None
of them draws anything: chance is handed in, so that the same images come out on every machine.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

Grade = Literal["mild", "medium", "strong"]

STAIN: Mapping[Grade, float] = {"mild": 0.1, "medium": 0.2, "strong": 0.4}
"""By what share haematoxylin is denser and eosin fainter, or the reverse. Augmentation that is to stand for
other laboratories draws up to 0.05 (light) or 0.2 (strong) in Tellez et al. 2019; strong is twice that."""
TINT = 0.25
"""Of that share so much lies on all, glass as well, in optical density: white balances differ."""
BLUR: Mapping[Grade, float] = {"mild": 0.5, "medium": 1.0, "strong": 2.0}
"""Standard deviation in pixels of what the network sees: below the optics', visible, chromatin gone."""
JPEG: Mapping[Grade, float] = {"mild": 70, "medium": 40, "strong": 20}
"""Quality: scanners store at 70 to 90; at 40 the blocks are visible, at 20 fine texture is gone."""
BRIGHTNESS: Mapping[Grade, float] = {"mild": 0.1, "medium": 0.2, "strong": 0.3}
"""By what share there is more light, or less: a lamp that ages, up to an exposure that is plainly wrong."""
NOISE: Mapping[Grade, float] = {"mild": 0.02, "medium": 0.05, "strong": 0.1}
"""Standard deviation, of the full range: 5, 13 and 26 of 255 levels; a good camera has 1 to 3."""

_DARKEST = 1 / 255  # where nothing comes through the density would have no end
_HAEMATOXYLIN, _EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""What they take of red, green and blue (Ruifrok and Johnston 2001)."""


class Chance(NamedTuple):
    """What was drawn for each image of a batch."""

    directions: Tensor
    """N: 1 or -1, which way its stain and its light are shifted."""
    noise: Tensor
    """N×C×H×W, of a standard normal distribution."""


@dataclass(frozen=True)
class Condition:
    """One way in which images are made worse."""

    kind: str
    grade: Grade
    strength: str
    """In words; ± is one way for half of the images, and the other way for the others."""
    change: Callable[[Tensor, Chance], Tensor]


def conditions(channels: int) -> tuple[Condition, ...]:
    """Five kinds in three grades; images that are not of red, green and blue have their contrast changed, for
    they have no stains."""
    return tuple(
        Condition(kind, grade, words(level), partial(change, level))
        for kind, levels, words, change in (_OF_COLOURS if channels == 3 else _OF_GREYS, *_OTHERS)
        for grade, level in levels.items()
    )


def units(images: Tensor) -> Tensor:
    """Floats from 0 to 1."""
    return images if images.is_floating_point() else images.float() / 255


# ── The changes ─────────────────────────────────────────────────────────────────────────────────


def stained(images: Tensor, shifts: Tensor) -> Tensor:
    """Haematoxylin denser by its image's share of ``shifts`` (N), and eosin fainter; the reverse below 0."""
    shifts = shifts.to(images.device, torch.float32)
    stains, unmixing = _stains(images.device)
    shares = torch.stack([1 + shifts, 1 - shifts, torch.ones_like(shifts)], dim=1)
    change = unmixing @ (shares.unsqueeze(2) * stains)  # densities → amounts → changed → densities
    densities = -units(images).clamp(min=_DARKEST).log()
    changed = torch.einsum("nchw,ncd->ndhw", densities, change)
    tint = TINT * shifts.unsqueeze(1) * (stains[0] - stains[1])
    return (changed + tint[:, :, None, None]).neg_().exp_().clamp_(0, 1)


def contrasted(images: Tensor, shares: Tensor) -> Tensor:
    """Each image's distance from its mean made larger by its share (N), or smaller below 0."""
    given = units(images)
    mean = given.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (given - mean) * _for_each(1 + shares, given)).clamp_(0, 1)


def brightened(images: Tensor, shares: Tensor) -> Tensor:
    """More light by each image's share (N), or less below 0."""
    given = units(images)
    return (given * _for_each(1 + shares, given)).clamp_(0, 1)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """By a Gaussian of this standard deviation, in pixels; the edges go on beyond the image."""
    given = units(images)
    radius, channels = math.ceil(3 * sigma), given.shape[1]
    offsets = torch.arange(-radius, radius + 1, device=given.device, dtype=given.dtype)
    weights = (-0.5 * (offsets / sigma) ** 2).exp()
    kernel = (weights / weights.sum()).expand(channels, 1, 1, -1).contiguous()
    across = conv2d(_widened(given, (radius, radius, 0, 0)), kernel, groups=channels)
    return conv2d(_widened(across, (0, 0, radius, radius)), kernel.mT.contiguous(), groups=channels).clamp_(
        0, 1
    )


def compressed(images: Tensor, quality: int) -> Tensor:
    """As they come out of a JPEG file of this quality (0 to 100)."""
    given = units(images)
    pixels = (given * 255).round().to(torch.uint8).cpu()
    through = torch.stack([_through_jpeg(image, quality) for image in pixels]) if len(pixels) else pixels
    return units(through).to(given)


def noisy(images: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """With this noise (like ``images``), so many times as strong."""
    given = units(images)
    return (given + sigma * noise.to(given)).clamp_(0, 1)


def _for_each(figures: Tensor, images: Tensor) -> Tensor:
    return figures.to(images)[:, None, None, None]


@cache
def _stains(device: torch.device) -> tuple[Tensor, Tensor]:
    """Haematoxylin, eosin and what is neither, as directions of density; and densities → amounts of them."""
    known = torch.tensor([_HAEMATOXYLIN, _EOSIN], dtype=torch.float64)
    stains = torch.stack([*known, torch.linalg.cross(*known)])
    stains = stains / stains.norm(dim=1, keepdim=True)
    return stains.to(device, torch.float32), torch.linalg.inv(stains).to(device, torch.float32)


def _widened(images: Tensor, edges: tuple[int, int, int, int]) -> Tensor:
    return pad(images.contiguous(), edges, mode="replicate")


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """C×H×W of uint8; channels that are not red, green and blue are stored each by itself."""
    if len(image) not in (1, 3):
        return torch.cat([_through_jpeg(channel, quality) for channel in image.unsqueeze(1)])
    import numpy as np
    from PIL import Image

    rows = image.permute(1, 2, 0).numpy()
    stored = io.BytesIO()
    Image.fromarray(rows if len(image) == 3 else rows[:, :, 0]).save(stored, "JPEG", quality=quality)
    with Image.open(stored) as opened:
        read = np.array(opened).reshape(rows.shape)
    return torch.from_numpy(read).permute(2, 0, 1)


# ── In grades ───────────────────────────────────────────────────────────────────────────────────


def _stain(level: float, images: Tensor, chance: Chance) -> Tensor:
    return stained(images, level * chance.directions)


def _contrast(level: float, images: Tensor, chance: Chance) -> Tensor:
    return contrasted(images, level * chance.directions)


def _brightness(level: float, images: Tensor, chance: Chance) -> Tensor:
    return brightened(images, level * chance.directions)


def _blur(level: float, images: Tensor, chance: Chance) -> Tensor:
    return blurred(images, level)


def _jpeg(level: float, images: Tensor, chance: Chance) -> Tensor:
    return compressed(images, int(level))


def _noise(level: float, images: Tensor, chance: Chance) -> Tensor:
    return noisy(images, chance.noise, level)


_Kind = tuple[str, Mapping[Grade, float], Callable[[float], str], Callable[[float, Tensor, Chance], Tensor]]
_OF_COLOURS: _Kind = (
    "stain",
    STAIN,
    lambda level: f"haematoxylin ±{level:.0%}, eosin ∓{level:.0%}",
    _stain,
)
_OF_GREYS: _Kind = ("contrast", STAIN, lambda level: f"contrast ±{level:.0%}", _contrast)
_OTHERS: tuple[_Kind, ...] = (
    ("blur", BLUR, lambda level: f"a Gaussian of {level:g} px", _blur),
    ("JPEG", JPEG, lambda level: f"quality {level:g}", _jpeg),
    ("brightness", BRIGHTNESS, lambda level: f"light ±{level:.0%}", _brightness),
    ("noise", NOISE, lambda level: f"a deviation of {255 * level:.0f} of 255 levels", _noise),
)
