"""Small files in the format of PatchCamelyon."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
COUNTS = {"train": 24, "valid": 8, "test": 6}


def name(split: str, part: str) -> str:
    return f"camelyonpatch_level_2_split_{split}_{part}"


def arrays(counts: Mapping[str, int] = COUNTS) -> dict[str, Array]:
    """By ``train_x``, ``train_y`` and so on: images of coarse patches, where tumour has a violet centre."""
    chance = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for split, count in counts.items():
        labels = np.arange(count) % 2
        coarse = chance.integers(80, 236, (count, 6, 6, 3), np.uint8)
        images = coarse.repeat(16, axis=1).repeat(16, axis=2) + chance.integers(
            0, 16, (count, 96, 96, 3), np.uint8
        )
        images[labels == 1, 32:64, 32:64, 1] -= 80
        made |= {f"{split}_x": images, f"{split}_y": labels.astype(np.uint8).reshape(-1, 1, 1, 1)}
    return made


def hdf5(**datasets: Array) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for key, array in datasets.items():
            file.create_dataset(key, data=array)
    return buffer.getvalue()


def slides(split: str, count: int) -> bytes:
    lines = [f"{i},{i},{i},False,False,camelyon16_{split}_{i // 4:03}" for i in range(count)]
    return "\n".join([",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi", *lines, ""]).encode()


def contents(counts: Mapping[str, int] = COUNTS) -> dict[str, bytes]:
    """All nine files by their names, unpacked."""
    made = arrays(counts)
    return (
        {name(split, "x.h5"): hdf5(x=made[f"{split}_x"]) for split in counts}
        | {name(split, "y.h5"): hdf5(y=made[f"{split}_y"]) for split in counts}
        | {name(split, "meta.csv"): slides(split, count) for split, count in counts.items()}
    )


def write(folder: Path, files: Mapping[str, bytes], gzipped: Iterable[str] = ()) -> Path:
    """Those named in ``gzipped`` as gzip files."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        packed = file in gzipped
        (folder / (f"{file}.gz" if packed else file)).write_bytes(pack(content) if packed else content)
    return folder


def pack(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)
