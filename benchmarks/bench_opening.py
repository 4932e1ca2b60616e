"""Opening data until the first image is there: the packed store against ``np.load`` of an npz.

The npz is not compressed, which is the fastest that it can be.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import timeit
from pathlib import Path

import numpy as np
from made_data import noise, packed
from side_by_side import compare

from histoflow.data.store import PackedStore


def open_packed(folder: Path) -> int:
    train = PackedStore(folder).split("train")
    assert len(train.labels) == len(train)
    return len(train.gather(np.array([len(train) - 1])))


def open_npz(path: Path) -> int:
    with np.load(path) as data:
        return len(data["images"][-1:]) and len(data["labels"][-1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=90_000)
    parser.add_argument("--side", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = noise(asked.images + 8, asked.side)
        store = packed(images, folder)
        np.savez(folder / "all.npz", images=images, labels=np.arange(len(images)) % 2)
        del images
        compare(
            f"Opening {asked.images:,} images of {asked.side}×{asked.side}",
            "openings",
            {
                "histoflow": lambda: open_packed(store.folder),
                "np.load": lambda: open_npz(folder / "all.npz"),
            },
        )
        seconds = statistics.median(timeit.repeat(lambda: open_packed(store.folder), number=1, repeat=50))
        print(f"  one opening of ours: {1000 * seconds:.2f} ms (median of 50)")


if __name__ == "__main__":
    main()
