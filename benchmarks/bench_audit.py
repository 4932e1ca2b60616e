"""The audit: how long it takes, and what it finds of the defects planted among painted patches."""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from planted import COPIES, EMPTY, Planted, painted, plant
from side_by_side import describe as title

from histoflow.data.audit import checks, copies, groups, near, pictures
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.features import describe
from histoflow.errors import UnreadableImage
from histoflow.images import read_rgb
from histoflow_plugins.tissue import NINE

_BLOCK = 256
_FAINT = 8
"""Levels of standard deviation, of the channel that varies most. If a copy of a fainter image is missed, that
is excused: recompression and noise change such an image about as much as it shows. One image of 200 is so
faint, of background two of three."""
_CHECKS = {
    "blank, black, constant": pictures.check,
    "groups across splits": groups.check,
    "exact copies": copies.check,
    "near copies": near.check,
}


def examined(made: Planted, folder: Path) -> tuple[Examined, float]:
    """What packing would hand to the audit, and how many seconds it took to measure the images."""
    np.save(folder / "images.npy", made.images)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        list(pool.imap(partial(_measured, folder / "images.npy"), [0, _BLOCK]))  # the processes have started
        begin = time.perf_counter()
        starts = range(0, len(made.images), _BLOCK)
        blocks = list(pool.imap(partial(_measured, folder / "images.npy"), starts, chunksize=8))
        seconds = time.perf_counter() - begin
    hashes = np.array([blake2b(image.tobytes(), digest_size=16).digest() for image in made.images], "S16")
    found = Examined(
        task="multiclass",
        classes=NINE,
        labels=made.labels,
        splits=made.splits,
        sources=[f"patch {index}" for index in range(len(made.images))],
        groups=made.groups,
        hashes=hashes,
        features={name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]},
        files={},
        images=lambda places: made.images[places],
    )
    return found, seconds


def _measured(path: Path, start: int) -> dict[str, NDArray[Any]]:
    return describe(np.load(path, mmap_mode="r")[start : start + _BLOCK])


# ── What was found ──────────────────────────────────────────────────────────────────────────────


def flagged(answers: Sequence[Answer]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([np.empty(0, np.int64), *(np.array(answer.drop) for answer in answers)]))


def asked(images: Examined, names: Sequence[str]) -> list[Answer]:
    return [answer for name in names for answer in _CHECKS[name](images)]


@dataclass(frozen=True)
class Tally:
    defect: str
    planted: int
    found: int
    excused: int = 0
    """Not found, of faint images."""

    def __str__(self) -> str:
        missed = self.planted - self.found - self.excused
        return f"  {self.defect:42} {self.planted:7,} {self.found:7,} {self.excused:7,} {missed:7,}"


def tallies(made: Planted, images: Examined) -> Iterator[Tally]:
    copied = flagged(asked(images, ["exact copies", "near copies"]))
    conflicting = flagged(
        [a for a in asked(images, ["exact copies"]) if a.finding.check == "label_conflicts"]
    )
    for name in COPIES:
        seen = conflicting if "label" in name else copied
        missed = [pair for pair in made.defects[name] if not np.isin(pair, seen).any()]
        excused = sum(_faint(made, pair) for pair in missed)
        yield Tally(name, len(made.defects[name]), len(made.defects[name]) - len(missed), excused)
    for name, check in zip(EMPTY, ("blank", "black", "constant"), strict=True):
        seen = flagged([a for a in asked(images, ["blank, black, constant"]) if a.finding.check == check])
        found = sum(int(place in seen) for (place,) in made.defects[name])
        yield Tally(name, len(made.defects[name]), found)


def _faint(made: Planted, pair: tuple[int, ...]) -> bool:
    """Told from the pixels of the original, and from nothing that the audit makes of them."""
    return float(made.images[pair[0]].std(axis=(0, 1)).max()) < _FAINT


def across_splits(made: Planted, images: Examined) -> Iterator[Tally]:
    """Of the copies, those that stand in test and elsewhere, and in val and train."""
    answers = {a.finding.check: a for a in asked(images, ["exact copies", "near copies"])}
    pairs = [pair for name in COPIES for pair in made.defects[name]]
    for into, number, others in (("test", 2, (0, 1)), ("val", 1, (0,))):
        crossing = [pair for pair in pairs if _stands(made, pair) in [{number, other} for other in others]]
        seen = flagged([answers[f"copies_in_{into}"], answers[f"near_copies_in_{into}"]])
        missed = [pair for pair in crossing if not np.isin(pair, seen).any()]
        excused = sum(_faint(made, pair) for pair in missed)
        yield Tally(f"copies of {into} elsewhere", len(crossing), len(crossing) - len(missed), excused)


def _stands(made: Planted, pair: tuple[int, ...]) -> set[int]:
    return {int(made.splits[place]) for place in pair}


def group_leaks(images: Examined, each: int) -> Tally:
    """Some images of as many groups of train go to test; then those groups are to be found."""
    names, splits = np.array(images.groups), images.splits.copy()
    leaking = [f"slide {group}" for group in range(min(each, 140))]
    for group in leaking:
        splits[np.flatnonzero(names == group)[:3]] = 2
    answer = next(iter(groups.check(replace(images, splits=splits))))
    return Tally("groups of train in test", len(leaking), answer.finding.figures["groups"])


def broken_files(images: NDArray[np.uint8], folder: Path, each: int) -> Tally:
    """Files cut short, among whole ones."""
    found = 0
    for index in range(2 * each):
        path = folder / f"{index}.{('png', 'jpg', 'tif')[index % 3]}"
        Image.fromarray(images[index]).save(path)
        if index % 2:
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
        try:
            read_rgb(path)
        except UnreadableImage:
            found += 1 if index % 2 else -each
    return Tally("files cut short", each, found)


# ── The report ──────────────────────────────────────────────────────────────────────────────────


def print_times(images: Examined, measuring: float) -> None:
    count, total = len(images.sources), measuring
    print(
        f"\n  {'measuring the images':42} {measuring:8.2f} s   {count / measuring:,.0f} images/s, 2 processes"
    )
    for name, check in _CHECKS.items():
        begin = time.perf_counter()
        list(check(images))
        print(f"  {name:42} {time.perf_counter() - begin:8.2f} s")
    begin = time.perf_counter()
    checks.audit(images, {})
    total += time.perf_counter() - begin
    print(f"  {'all checks together':42} {total - measuring:8.2f} s")
    print(f"  {'in all':42} {total:8.2f} s")


def print_found(made: Planted, images: Examined, folder: Path) -> None:
    each = len(made.defects["exact copies"])
    print(f"\n  {'defect':42} {'planted':>7} {'found':>7} {'excused':>7} {'missed':>7}")
    for tally in (*tallies(made, images), *across_splits(made, images)):
        print(tally)
    print(group_leaks(images, each))
    print(broken_files(made.images, folder, min(each, 60)))
    print(f"  excused: not found, of an image that varies by less than {_FAINT} levels")


def print_false_alarms(clean: Examined) -> None:
    count = len(clean.sources)
    for name in ("blank, black, constant", "exact copies", "near copies"):
        wrong = len(flagged(asked(clean, [name])))
        print(f"  {'false alarms, ' + name:42} {wrong:7,} of {count:,} clean images ({wrong / count:.3%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="the target is stated for 100000")
    parser.add_argument("--seed", type=int, default=2)
    told = parser.parse_args()
    each = max(10, told.images // 500)
    images, labels = painted(told.images, told.seed)
    made = plant(images, labels, each, told.seed)
    what = f"The audit of {len(made.images):,} images of 64×64, {each} of each defect among them"
    print(
        title(f"{what}, seed {told.seed}", 1).replace(
            "1 alternating runs each: median (least to most)", "one run"
        )
    )
    with tempfile.TemporaryDirectory() as name:
        found, measuring = examined(made, Path(name))
        print_times(found, measuring)
        print_found(made, found, Path(name))
    kept = found.without(range(told.images, len(made.images)))
    print_false_alarms(kept)


if __name__ == "__main__":
    main()
