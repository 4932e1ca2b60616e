"""Made images to be packed, in a module that is quick to import: packing's own processes do so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from histoflow import Facts, Row, Samples, UnreadableImage
from histoflow.data import chunks

COUNT, PER_CHUNK, SIDE = 240, 20, 8
SPLIT = {"val": 0.25, "test": 0.25, "seed": 0}


def image(index: int) -> Any:
    return np.random.default_rng(index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def one_is_damaged(index: int) -> Any:
    if index == 33:
        raise UnreadableImage("truncated after 12 bytes")
    return image(index)


def samples(read: Any = one_is_damaged) -> Samples:
    rows = [Row(label=index % 2, source=f"image-{index}") for index in range(COUNT)]
    return Samples(classes=("no", "yes"), rows=rows, read=read)


def packed(
    home: Path,
    read: Any = one_is_damaged,
    processes: int | None = 1,
    made: Samples | None = None,
    **split: Any,
) -> Path:
    """The store's folder; decoded in chunks of a few images."""
    from histoflow.data.packing import Recipe, pack  # which its processes need not

    recipe = Recipe(
        dataset={"name": "made"}, dataset_version=1, raw_digest="0", preprocess=[], split=SPLIT | split
    )
    usual = chunks.CHUNK_IMAGES
    chunks.CHUNK_IMAGES = PER_CHUNK
    try:
        return pack(recipe, Facts(), lambda: made or samples(read), (), home, processes=processes)
    finally:
        chunks.CHUNK_IMAGES = usual
