"""What a patch of ``tissue`` shows: which tissues lie side by side, and how the slide was stained."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from histoflow_plugins._tissue_canvas import FIELD, Canvas, Field, stamp
from histoflow_plugins._tissue_kinds import (
    Painter,
    Tissue,
    adipose,
    background,
    debris,
    lymphocytes,
    merge,
    mucus,
    normal_mucosa,
    smooth_muscle,
    step,
    stroma,
    tumour,
)

NINE: dict[str, tuple[Painter, tuple[Painter, ...]]] = {
    "adipose": (adipose, (stroma, background, mucus)),
    "background": (background, (mucus, adipose, stroma)),
    "debris": (debris, (tumour, mucus, stroma)),
    "lymphocytes": (lymphocytes, (stroma, normal_mucosa, tumour)),
    "mucus": (mucus, (background, debris, tumour)),
    "smooth_muscle": (smooth_muscle, (stroma, adipose, lymphocytes)),
    "normal_mucosa": (normal_mucosa, (lymphocytes, mucus, background)),
    "stroma": (stroma, (tumour, lymphocytes, adipose)),
    "tumour": (tumour, (stroma, debris, lymphocytes)),
}
"""Each tissue, and those that may reach into a patch of it from one side."""

NODE = (lymphocytes, lymphocytes, lymphocytes, stroma, stroma, adipose)
"""What a lymph node without tumour shows, the commoner the oftener."""


def one_of_nine(canvas: Canvas, tissue: str) -> Tissue:
    """A patch of this tissue, often with a smaller part of another at its side."""
    painter, neighbours = NINE[tissue]
    scene = painter(canvas)
    if canvas.happens(0.5):
        return merge(canvas, canvas.choose(neighbours)(canvas), scene, _side(canvas))
    return scene


def lymph_node(canvas: Canvas, tumour_within: bool) -> Tissue:
    """A patch with tumour in its middle or not; either way there may be some near its border."""
    mask = tumour_mask(canvas, tumour_within)
    scene = canvas.choose(NODE)(canvas)
    return merge(canvas, tumour(canvas), scene, mask) if mask.any() else scene


def tumour_mask(canvas: Canvas, within: bool) -> Field:
    """Where tumour lies: near the border by chance, in the central third if it is to be within."""
    nests = [_nest_outside(canvas) for _ in range(2) if canvas.happens(0.5)]
    if within:
        nests.append(_nest_within(canvas))
    mask: Field = np.max([np.zeros_like(canvas.x), *nests], axis=0)
    return mask


def _side(canvas: Canvas) -> Field:
    """1 on one side of a wavy line that leaves more than half of the patch to the other."""
    turn, wave = canvas.draw(0, 2 * pi), 4 * canvas.noise(28)
    reach = (canvas.x - FIELD / 2) * np.cos(turn) + (canvas.y - FIELD / 2) * np.sin(turn)
    return step(reach + wave, canvas.draw(12, 42), 2)


def _nest_within(canvas: Canvas) -> Field:
    """A nest whose middle lies in the patch's central third."""
    radius = canvas.draw(13, 24) if canvas.happens(0.7) else canvas.draw(24, 65)
    return _nest(canvas, canvas.draw(36, 64), canvas.draw(36, 64), radius)


def _nest_outside(canvas: Canvas) -> Field:
    """A nest that keeps clear of the central third by more than a nucleus."""
    turn, distance = canvas.draw(0, 2 * pi), canvas.draw(50, 90)
    x, y = FIELD / 2 + distance * np.cos(turn), FIELD / 2 + distance * np.sin(turn)
    from_middle = np.maximum(np.abs(canvas.x - FIELD / 2), np.abs(canvas.y - FIELD / 2))
    return _nest(canvas, x, y, distance - canvas.draw(22, 28)) * step(from_middle, FIELD / 6 + 9, 1)


def _nest(canvas: Canvas, x: float, y: float, radius: float) -> Field:
    away = np.hypot(canvas.x - x, canvas.y - y)
    return step(radius * (1 + 0.2 * canvas.noise(22) + 0.07 * canvas.noise(7)) - away, 0, 2)


# ── Staining ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stain:
    """How a slide was stained and scanned."""

    haematoxylin: tuple[float, float, float]
    """Optical density in red, green and blue of one unit of the dye."""
    eosin: tuple[float, float, float]
    light: tuple[float, float, float]
    """The colour of empty glass, 0..1."""
    blur: float


def develop(canvas: Canvas, tissue: Tissue, stain: Stain) -> NDArray[np.uint8]:
    """The image of a scene: dyes absorb light by the law of Beer and Lambert."""
    blue, pink = np.maximum(tissue.haematoxylin, 0), np.maximum(tissue.eosin, 0)
    chromatin = canvas.noise(1.8)
    for group in tissue.cells:
        cover, dye = stamp(canvas, group, chromatin)
        blue, pink = np.maximum(blue * (1 - cover), dye), pink * (1 - 0.65 * cover)
    blue = canvas.draw(0.55, 1.45) * _soften(blue, stain.blur)
    pink = canvas.draw(0.45, 1.65) * _soften(pink, stain.blur)
    density = blue[..., None] * np.array(stain.haematoxylin) + pink[..., None] * np.array(stain.eosin)
    image = 255 * np.array(stain.light) * np.exp(-density)
    image += 2.5 * (canvas.draws(-1, 1, *image.shape) + canvas.draws(-1, 1, canvas.size, canvas.size, 1))
    rounded: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return rounded


def _soften(field: Field, amount: float) -> Field:
    """A blur of one pixel's reach, from none (0) to even thirds (1)."""
    for _ in range(2):
        padded = np.pad(field, ((1, 1), (0, 0)), mode="edge")
        field = (field + amount / 2 * (padded[:-2] + padded[2:])) / (1 + amount)
        field = field.T
    return field
