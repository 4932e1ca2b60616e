"""Thumbnails, plain and under what speaks for a class, as addresses that hold the whole picture."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 112
"""Pixels of the longer side."""
_QUALITY = 80
_MOST_OPAQUE = 0.7


@dataclass(frozen=True)
class Thumb:
    source: str
    alt: str
    width: int
    height: int


def plain(image: NDArray[np.uint8]) -> Thumb:
    return _thumb(_scaled(image), "The image as it is stored")


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32], name: str) -> Thumb:
    """The image under a colour that is the stronger, the more the place speaks for the class."""
    below = _scaled(image)
    smooth = Image.fromarray(heat.astype(np.float32)).resize(below.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)
    colours = colormaps["viridis"](strength)[..., :3] * 255
    opaque = _MOST_OPAQUE * strength[..., None]
    blended = opaque * colours + (1 - opaque) * np.asarray(below, np.float64)
    looked = f"Where the network finds {name}" if strength.any() else f"No place speaks for {name}"
    return _thumb(Image.fromarray(blended.round().astype(np.uint8)), looked)


def _scaled(image: NDArray[np.uint8]) -> Image.Image:
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)


def _thumb(picture: Image.Image, alt: str) -> Thumb:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    address = f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}"
    return Thumb(address, alt, picture.width, picture.height)
