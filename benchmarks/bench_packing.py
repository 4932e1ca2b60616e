"""Packing: what histoflow takes to pack image files, against a loop over them with Pillow.

By hand, one process opens each file with Pillow, stacks the images and writes one npy. histoflow decodes with
a process for each core, hashes and measures what it packs, and waits until the disk has it. The checks of the
audit, which see all images together, count in one row only. Both find the files in the system's cache.

    python benchmarks/bench_packing.py [images] [--runs N]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from side_by_side import Way, compare, describe
from threadpoolctl import threadpool_limits

from histoflow import Facts, Row, Samples
from histoflow.cores import cores
from histoflow.data import assembling
from histoflow.data.audit import features
from histoflow.data.audit.checks import Audited
from histoflow.data.decoding import Decoder, Job, decode
from histoflow.data.packing import Recipe, pack
from histoflow.images import read_rgb
from histoflow_plugins.tissue import TissueParams, read

SIDE, DIFFERENT = 96, 100
FORMATS = {"uncompressed TIFF": ("tif", {}), "PNG": ("png", {}), "JPEG": ("jpg", {"quality": 90})}
_numbers = count()


@dataclass(frozen=True)
class Read:
    """What a data set of files hands to packing; ``bare`` has the process that reads measure nothing."""

    paths: Sequence[Path]
    bare: bool

    def __call__(self, index: int) -> NDArray[np.uint8]:
        if self.bare:
            features.describe, features.describe_file = nothing, nothing
        return read_rgb(self.paths[index])


def nothing(what: object) -> dict[str, Any]:
    return {}


def no_checks(*told: object, **more: object) -> Audited:
    return Audited((), {})


@contextmanager
def as_usual() -> Iterator[None]:
    """Put back what was set aside inside."""
    kept = assembling.audit, features.describe, features.describe_file
    try:
        yield
    finally:
        assembling.audit, features.describe, features.describe_file = kept


def tissue(images: int) -> list[NDArray[np.uint8]]:
    """Like tissue, for noise would compress like nothing else; each image differs from the others."""
    params = TissueParams(size=SIDE, images=DIFFERENT)
    painted = [read(params, index) for index in range(DIFFERENT)]
    moved = (np.roll(painted[index % DIFFERENT], index // DIFFERENT, axis=0) for index in range(images))
    return list(moved)


def write_files(images: Sequence[NDArray[np.uint8]], folder: Path, suffix: str, how: dict[str, int]) -> None:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:06d}.{suffix}", **how)


def by_hand(paths: Sequence[Path], out: Path) -> int:
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            images[index] = np.asarray(image.convert("RGB"))
    np.save(out, images)
    return len(paths)


def packed(
    paths: Sequence[Path], home: Path, processes: int, *, checks: bool = False, measures: bool = True
) -> int:
    rows = [Row(label=index % 2, source=path.name) for index, path in enumerate(paths)]
    recipe = Recipe(
        dataset={"name": "files"},
        dataset_version=1,
        raw_digest=str(next(_numbers)),
        preprocess=[],
        split={"val": 0.1, "test": 0.2, "seed": 0},
    )
    read = Read(paths, bare=not measures)
    samples = Samples(classes=("no", "yes"), rows=rows, read=read, files=paths)
    with as_usual():
        if not checks:
            assembling.audit = no_checks
        folder = pack(recipe, Facts(), lambda: samples, (), home, processes=processes)
    shutil.rmtree(folder)
    return len(paths)


def bench_files(name: str, images: Sequence[NDArray[np.uint8]], folder: Path, runs: int) -> None:
    suffix, how = FORMATS[name]
    write_files(images, folder / suffix, suffix, how)
    paths = sorted((folder / suffix).iterdir())
    ours = partial(packed, paths, folder / "home")
    ways: dict[str, Way] = {
        f"{cores()} processes, audit and all": partial(ours, cores(), checks=True),
        f"{cores()} processes": partial(ours, cores()),
        "1 process": partial(ours, 1),
        f"{cores()} processes, nothing measured": partial(ours, cores(), measures=False),
        "1 process, nothing measured": partial(ours, 1, measures=False),
        "Pillow loop, 1 process": partial(by_hand, paths, folder / "by-hand.npy"),
    }
    compare(f"{len(paths):,} files, {name}, {SIDE}×{SIDE}", "images", ways, runs)
    shutil.rmtree(folder / suffix)


def bench_parts(images: Sequence[NDArray[np.uint8]], folder: Path, runs: int) -> None:
    """What the pieces of the first half take, in one process, each alone."""
    block = np.stack(images[:300])
    folder.mkdir()
    write_files(block, folder / "parts", "tif", {})
    paths = sorted((folder / "parts").iterdir())
    job = Job(
        start=0,
        stop=len(paths),
        sources=[path.name for path in paths],
        files=None,
        shape=block.shape[1:],
        example="",
    )
    in_memory = Decoder(read=block.__getitem__, steps=(), facts=Facts(), keyed=False)
    keyed = Decoder(read=block.__getitem__, steps=(), facts=Facts(), keyed=True)
    parts: dict[str, Callable[[], object]] = {
        "read_rgb": lambda: [read_rgb(path) for path in paths],
        "Pillow": lambda: [np.asarray(Image.open(path).convert("RGB")) for path in paths],
        "the audit's features (describe)": lambda: features.describe(block),
        "the audit's facts of files": lambda: [features.describe_file(path) for path in paths],
        "hashes, sums and features": lambda: decode(in_memory, job),
        "and what deals them to splits": lambda: decode(keyed, job),
    }
    print(describe(f"The pieces, for each image of {SIDE}×{SIDE}", runs))
    for name, part in parts.items():
        with threadpool_limits(1, "blas"):  # as in packing
            took = sorted(_seconds(part) / len(block) * 1e6 for _ in range(runs))
        print(f"  {name:34} {took[len(took) // 2]:6.0f} µs ({took[0]:.0f} to {took[-1]:.0f})")


def _seconds(part: Callable[[], object]) -> float:
    begin = time.perf_counter()
    part()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="?", default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=FORMATS)
    told = parser.parse_args()
    images = tissue(told.images)
    with tempfile.TemporaryDirectory() as folder:
        bench_parts(images, Path(folder) / "pieces", told.runs)
        for name in [told.only] if told.only else FORMATS:
            bench_files(name, images, Path(folder), told.runs)


if __name__ == "__main__":
    main()
