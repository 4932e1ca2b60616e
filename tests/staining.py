"""Pictures of tissue whose two stains are known, for the tests of what is done to stains."""

from __future__ import annotations

from typing import Any

import numpy as np

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
