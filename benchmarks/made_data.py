"""Made images, packed, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoflow import Facts, Row, Samples, SplitName
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore


def noise(images: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (images, side, side, 3), np.uint8)


def packed(images: NDArray[np.uint8], folder: Path, held_out: int = 4) -> PackedStore:
    """All but the last few images are for training, half of those few for validation."""
    train = len(images) - 2 * held_out
    splits: list[SplitName] = [*["train"] * train, *["val"] * held_out, *["test"] * held_out]
    rows = [Row(label=index % 2, source=str(index), split=split) for index, split in enumerate(splits)]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: images[index])
    split = {"val": 0.1, "test": 0.1, "seed": 0}
    recipe = Recipe(dataset={"name": "made"}, dataset_version=1, raw_digest="", preprocess=[], split=split)
    return PackedStore(pack(recipe, Facts(), lambda: made, (), folder))
