"""Pictures of tissue whose two stains are known, and tiles of any kind, for the tests of what is done to stains."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Of Ruifrok and Johnston 2001."""

ELSEWHERE = (0.55, 0.78, 0.30), (0.20, 0.90, 0.38)
"""The same two as another laboratory might have them."""


def unit(colour: Any) -> Any:
    return np.asarray(colour, float) / np.linalg.norm(colour)


def amounts(side: int = 48, seed: int = 0, glass: float = 0.1) -> Any:
    """H×W×2: how much of each stain there is; in some places of one alone, in a share of them of none."""
    chance = np.random.default_rng(seed)
    found = chance.gamma(3.0, (0.35, 0.2), (side, side, 2))
    kind = chance.random((side, side))
    found[kind < 0.2, 0] = 0
    found[kind > 0.8, 1] = 0
    found[: round(side * glass)] = 0
    return found


def stained(amount: Any, haematoxylin: Any = HAEMATOXYLIN, eosin: Any = EOSIN) -> Any:
    """The image, H×W×3 uint8, of these amounts on white glass."""
    density = amount @ np.stack([unit(haematoxylin), unit(eosin)])
    return np.clip(240 * np.exp(-density) - 1, 0, 255).round().astype(np.uint8)


def scene(side: int = 48, seed: int = 0) -> Any:
    return stained(amounts(side, seed))


_KINDS = (
    "noise",
    "two levels",
    "one colour",
    "nearly white",
    "nearly black",
    "nearly grey",
    "one stain",
    "tissue",
    "one hot",
)


@st.composite
def tiles(draw: st.DrawFn) -> Any:
    """Small images of tissue and of all that is none."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, kind = (height, width, 3), draw(st.sampled_from(_KINDS))
    if kind == "two levels":
        return 255 * chance.integers(0, 2, shape).astype(np.uint8)
    if kind in ("one stain", "tissue"):
        amount = chance.gamma(2.0, 0.5, (height, width, 2)) * ((1, 0) if kind == "one stain" else (1, 1))
        return stained(amount, chance.random(3) + 0.01, chance.random(3) + 0.01)
    if kind == "one hot":
        image = np.full(shape, chance.integers(0, 256), np.uint8)
        image[chance.integers(height), chance.integers(width)] = chance.integers(0, 256, 3)
        return image
    bounds = {"nearly white": (250, 256), "nearly black": (0, 6), "nearly grey": (118, 139)}
    least, most = bounds.get(kind, (0, 256))
    return chance.integers(least, most, (1, 1, 3) if kind == "one colour" else shape).astype(
        np.uint8
    ) * np.ones(shape, np.uint8)
