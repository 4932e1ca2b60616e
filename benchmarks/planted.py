"""Painted patches with defects planted among them, for the benchmark of the audit."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from histoflow_plugins.tissue import NINE, TissueParams, place, read

SIDE = 64
_CANVAS = 128  # four patches are cut from each
Picture = NDArray[np.uint8]
Change = Callable[[Picture, np.random.Generator], Picture]


@dataclass(frozen=True)
class Planted:
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    groups: list[str]
    defects: Mapping[str, list[tuple[int, ...]]]
    """The images of each defect: a copy and what it is a copy of, or a bad one alone."""


def painted(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Patches of which no two show the same, and their classes."""
    canvases = -(-count // 4)
    params = TissueParams(size=_CANVAS, images=max(27, canvases), seed=seed)
    images = np.empty((4 * canvases, SIDE, SIDE, 3), np.uint8)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for index, canvas in enumerate(pool.imap(partial(read, params), range(canvases), chunksize=64)):
            cut = canvas.reshape(2, SIDE, 2, SIDE, 3).swapaxes(1, 2)
            images[4 * index : 4 * index + 4] = cut.reshape(4, SIDE, SIDE, 3)
    labels = np.repeat([place(params, index).label for index in range(canvases)], 4)
    # Some cuts show nothing but the glass between what their canvas shows.
    labels[: len(images)][images.min(axis=(1, 2, 3)) >= 200] = NINE.index("background")
    return images[:count], labels[:count]


# ── Changes ─────────────────────────────────────────────────────────────────────────────────────


def same(image: Picture, chance: np.random.Generator) -> Picture:
    return image.copy()


def turned(image: Picture, chance: np.random.Generator) -> Picture:
    quarter = int(chance.integers(0, 4))
    return np.rot90(image if quarter else image[::-1], quarter)


def recompressed(image: Picture, chance: np.random.Generator) -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=int(chance.integers(50, 91)))
    return np.asarray(Image.open(file))


def brighter(image: Picture, chance: np.random.Generator) -> Picture:
    changed = image * chance.uniform(0.85, 1.1) + chance.uniform(-12, 12, 3)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def noisier(image: Picture, chance: np.random.Generator) -> Picture:
    return np.clip(np.rint(image + chance.normal(0, 4, image.shape)), 0, 255).astype(np.uint8)


def rescaled(image: Picture, chance: np.random.Generator) -> Picture:
    side = int(chance.integers(50, 60))
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def all_at_once(image: Picture, chance: np.random.Generator) -> Picture:
    return recompressed(brighter(turned(image, chance), chance), chance)


COPIES: Mapping[str, Change] = {
    "exact copies": same,
    "turned or flipped copies": turned,
    "recompressed copies (JPEG 50 to 90)": recompressed,
    "brighter or darker copies": brighter,
    "noisier copies": noisier,
    "rescaled copies": rescaled,
    "turned, shifted in colour, recompressed": all_at_once,
    "exact copies under another label": same,
}


def blank(chance: np.random.Generator) -> Picture:
    return np.rint(chance.normal(243, 2, (SIDE, SIDE, 3))).astype(np.uint8)


def black(chance: np.random.Generator) -> Picture:
    return chance.integers(0, 4, (SIDE, SIDE, 3), np.uint8)


def constant(chance: np.random.Generator) -> Picture:
    return np.broadcast_to(chance.integers(30, 200, 3, np.uint8), (SIDE, SIDE, 3))


EMPTY: Mapping[str, Callable[[np.random.Generator], Picture]] = {
    "blank": blank,
    "black": black,
    "of one colour": constant,
}

# ── Planting ────────────────────────────────────────────────────────────────────────────────────


def plant(images: NDArray[np.uint8], labels: NDArray[np.int64], each: int, seed: int) -> Planted:
    """The images with ``each`` of every defect behind them, in splits of 70, 10 and 20 %, in 200 groups."""
    chance = np.random.default_rng(seed)
    groups = chance.permutation(len(images)) % 200
    splits = np.searchsorted([0.7, 0.8], groups / 200, side="right").astype(np.int8)
    originals = iter(chance.permutation(len(images)))
    trained_on = iter(np.flatnonzero(splits == 0)[::-1])
    added: list[tuple[Picture, int, int]] = []
    defects: dict[str, list[tuple[int, ...]]] = {}
    for name, change in COPIES.items():
        other_label = int("label" in name)
        for _ in range(each):
            # Images in conflict are left out where they are trained on.
            original = int(next(trained_on if other_label else originals))
            defects.setdefault(name, []).append((original, len(images) + len(added)))
            label = (labels[original] + other_label) % len(NINE)
            added.append((change(images[original], chance), int(label), int(chance.integers(0, 3))))
    for name, make in EMPTY.items():
        for _ in range(each):
            defects.setdefault(name, []).append((len(images) + len(added),))
            added.append((make(chance), NINE.index("stroma"), int(chance.integers(0, 3))))
    return Planted(
        np.concatenate([images, np.stack([image for image, _, _ in added])]),
        np.concatenate([labels, [label for _, label, _ in added]]),
        np.concatenate([splits, [split for _, _, split in added]]).astype(np.int8),
        [*(f"slide {group}" for group in groups), *(f"alone {place}" for place in range(len(added)))],
        defects,
    )
