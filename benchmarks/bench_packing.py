"""Packing: what histoflow takes to pack image files, against a loop over them with Pillow.

By hand, one process opens each file with Pillow, stacks the images and writes one npy. histoflow decodes with
a process for each core, hashes and measures what it packs, and waits until the disk has it. The checks of the
audit, which see all images together, count in one row only. Both find the files in the system's cache, into
which they are read before each run.

    python benchmarks/bench_packing.py [images] [--runs N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from side_by_side import Way, compare, describe
from threadpoolctl import threadpool_limits

from histoflow import Facts, Row, Samples
from histoflow.cores import cores
from histoflow.data import assembling, moments
from histoflow.data.audit import features
from histoflow.data.audit.checks import Audited
from histoflow.data.audit.examined import Examined
from histoflow.data.chunks import write_chunk
from histoflow.data.decoding import Decoder, Job, decode
from histoflow.data.hashes import hashes_of
from histoflow.data.keys import dealing_keys
from histoflow.data.packing import Recipe, pack
from histoflow.data.splits import Dealer
from histoflow.images import read_rgb
from histoflow_plugins.tissue import TissueParams, read

SIDE = 96
FORMATS = {"uncompressed TIFF": ("tif", {}), "JPEG": ("jpg", {"quality": 90}), "PNG": ("png", {})}
_numbers = count()


@dataclass(frozen=True)
class Read:
    """What a data set of files hands to packing."""

    paths: Sequence[Path]

    def __call__(self, index: int) -> NDArray[np.uint8]:
        return read_rgb(self.paths[index])


def no_checks(examined: Examined, *told: object, **more: object) -> Audited:
    return Audited((), {}, np.full(len(examined.splits), -1))


@contextmanager
def checks(wanted: bool) -> Iterator[None]:
    kept = assembling.audit
    assembling.audit = kept if wanted else no_checks
    try:
        yield
    finally:
        assembling.audit = kept


def tissue(images: int) -> list[NDArray[np.uint8]]:
    """Like tissue, for noise would compress like nothing else."""
    with multiprocessing.get_context("spawn").Pool(cores()) as pool:
        return pool.map(partial(read, TissueParams(size=SIDE, images=images)), range(images), chunksize=100)


def write_files(images: Sequence[NDArray[np.uint8]], folder: Path, suffix: str, how: dict[str, int]) -> None:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:06d}.{suffix}", **how)


def by_hand(paths: Sequence[Path], out: Path) -> int:
    images = np.empty((len(paths), SIDE, SIDE, 3), np.uint8)
    for index, path in enumerate(paths):
        with Image.open(path) as image:
            images[index] = np.asarray(image.convert("RGB"))
    out.mkdir()
    np.save(out / "images.npy", images)
    return len(paths)


def packed(paths: Sequence[Path], home: Path, processes: int, *, checked: bool = False) -> int:
    rows = [Row(label=index % 2, source=path.name) for index, path in enumerate(paths)]
    recipe = Recipe(
        dataset={"name": "files"},
        dataset_version=1,
        raw_digest=str(next(_numbers)),
        preprocess=[],
        split={"val": 0.1, "test": 0.2, "seed": 0},
    )
    samples = Samples(classes=("no", "yes"), rows=rows, read=Read(paths), files=paths)
    with checks(checked):
        folder = pack(recipe, Facts(), lambda: samples, (), home, processes=processes)
    assert (folder / "manifest.json").is_file()
    return len(paths)


@dataclass
class Costed:
    """Works in a folder that is removed then, and keeps what that took of all processors, in µs an image."""

    work: Callable[[Path], int]
    home: Path
    took: list[float] = field(default_factory=list)

    def __call__(self) -> int:
        before = _processor_time()
        folder = self.home / str(next(_numbers))
        done = self.work(folder)
        shutil.rmtree(folder)
        self.took.append((_processor_time() - before) / done * 1e6)
        return done


def _processor_time() -> float:
    """Of this process and of those that it started, which have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in used)


def bench_files(name: str, images: Sequence[NDArray[np.uint8]], folder: Path, runs: int) -> None:
    suffix, how = FORMATS[name]
    write_files(images, folder / suffix, suffix, how)
    paths = sorted((folder / suffix).iterdir())
    ours = partial(packed, paths)
    works: dict[str, Callable[[Path], int]] = {
        f"{cores()} processes": partial(ours, processes=cores()),
        "Pillow loop, 1 process": partial(by_hand, paths),
    }
    if suffix == "tif":
        audited = partial(ours, processes=cores(), checked=True)
        works = {
            f"{cores()} processes, audit and all": audited,
            "1 process": partial(ours, processes=1),
            **works,
        }
    with tempfile.TemporaryDirectory(dir=folder) as home:
        ways: dict[str, Way] = {name: Costed(work, Path(home)) for name, work in works.items()}
        title = f"{len(paths):,} files, {name}, {SIDE}×{SIDE}"
        compare(title, "images", ways, runs, before=lambda: [path.read_bytes() for path in paths])
    for name, way in ways.items():
        assert isinstance(way, Costed)
        print(f"  {name:34} {statistics.median(way.took):6.0f} µs of processors an image")
    shutil.rmtree(folder / suffix)


def bench_parts(images: Sequence[NDArray[np.uint8]], folder: Path, runs: int) -> None:
    """What the pieces take of a processor, each alone."""
    block = np.stack(images[:300])
    folder.mkdir()
    write_files(block, folder / "parts", "tif", {})
    paths = sorted((folder / "parts").iterdir())
    rows = [Row(label=0, source=path.name) for path in paths]
    job = Job(start=0, stop=len(paths), rows=rows, files=paths, shape=block.shape[1:], example="")
    decoder = Decoder(
        read=Read(paths), steps=(), facts=Facts(), deal=Dealer(val=0.1, test=0.2, seed=0), keyed=True
    )
    chunk, sums = decode(decoder, job), moments.of_each(block)
    parts: dict[str, Callable[[], object]] = {
        "Pillow": lambda: [np.asarray(Image.open(path).convert("RGB")) for path in paths],
        "read_rgb": lambda: [read_rgb(path) for path in paths],
        "what deals them to splits": lambda: dealing_keys(block, sums),
        "hashes": lambda: hashes_of(block),
        "sums for mean and deviation": lambda: moments.of_each(block),
        "the audit's features": lambda: features.describe(block, sums),
        "the audit's facts of files": lambda: [features.describe_file(path) for path in paths],
        "all of these (but Pillow)": lambda: decode(decoder, job),
        "writing them, split by split": lambda: write_chunk(folder, 0, len(paths), chunk),
    }
    print(describe(f"The pieces, for each image of {SIDE}×{SIDE}, in time of a processor", runs))
    for name, part in parts.items():
        with threadpool_limits(1, "blas"):  # as in packing
            took = sorted(_seconds(part) / len(block) * 1e6 for _ in range(3 * runs))
        print(f"  {name:34} {took[len(took) // 2]:6.0f} µs ({took[0]:.0f} to {took[-1]:.0f})")


def _seconds(part: Callable[[], object]) -> float:
    begin = time.process_time()
    part()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int, nargs="?", default=10_000, help="TIFF files; of others half")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=FORMATS)
    told = parser.parse_args()
    print(f"Load average at the start: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    images = tissue(told.images)
    with tempfile.TemporaryDirectory() as folder:
        bench_parts(images, Path(folder) / "pieces", told.runs)
        for name in [told.only] if told.only else FORMATS:
            some = images if name == "uncompressed TIFF" else images[: told.images // 2]
            bench_files(name, some, Path(folder), told.runs)


if __name__ == "__main__":
    main()
