"""The memory that packing takes: how it grows with the images, and of a set larger than may be taken (Linux).

Pages of files that are mapped can be dropped at any time, so what counts is the anonymous memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from histoflow import Facts, Row, Samples
from histoflow.data.packing import Recipe, pack


def print_growth(counts: Sequence[int], side: int, folder: Path | None) -> None:
    """How much more memory more images take."""
    most = [alone(count, side, folder, None) for count in counts]
    for count, taken in zip(counts, most, strict=True):
        print(f"  {_told(count, side)}: {taken:,.0f} MB of anonymous memory at most")
    slope = (most[-1] - most[0]) / (counts[-1] - counts[0])
    print(f"  so 100,000 images more take {100_000 * slope:,.0f} MB more")


def print_within(limit: int, side: int, folder: Path | None) -> None:
    """A set of twice the memory that the process may take."""
    count = 2 * limit * 10**6 // (3 * side * side)
    most = alone(count, side, folder, limit)
    print(f"  {_told(count, side)}, where a process may take {limit:,} MB: {most:,.0f} MB at most")


def _told(count: int, side: int) -> str:
    return f"{count:,} images of {side}×{side} ({3 * count * side * side / 1e9:.2f} GB)"


def alone(count: int, side: int, folder: Path | None, limit: int | None) -> float:
    """Packed in a process of its own; the megabytes of anonymous memory that it took."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(packing, (count, side, folder, limit))


def packing(count: int, side: int, folder: Path | None, limit: int | None) -> float:
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit * 10**6, limit * 10**6))
    rows = [Row(label=index % 2, source=f"{index}.png") for index in range(count)]
    samples = Samples(classes=("no", "yes"), rows=rows, read=partial(drawn, side))
    split = {"val": 0.1, "test": 0.1, "seed": 0}
    recipe = Recipe(dataset={"name": "made"}, dataset_version=1, raw_digest="", preprocess=[], split=split)
    with tempfile.TemporaryDirectory(dir=folder) as name, Watch() as watch:
        pack(recipe, Facts(), lambda: samples, (), Path(name), processes=1)
    return watch.most


def drawn(side: int, index: int) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8)


class Watch(threading.Thread):
    """Looks at this process's anonymous memory fifty times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, megabytes("RssAnon"))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs=2, default=(10_000, 40_000), help="packed, to compare")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--limit", type=int, default=400, help="MB that packing may take of twice as many")
    parser.add_argument("--folder", type=Path, help="where to write, on a disk with room")
    asked = parser.parse_args()
    print("Packing by one process, of images that are drawn as they are read")
    print_growth(asked.images, asked.side, asked.folder)
    print_within(asked.limit, 4 * asked.side, asked.folder)


if __name__ == "__main__":
    main()
