"""Cross-validation: packed stores in which train and val are cut anew, one store for each fold.

The store of a fold is an ordinary packed store, beside the one it is made of. That store's train and val are
joined and cut into parts of like size, evenly in each class, groups and copies kept together; fold 2 of 5
validates on the second part and trains on the others. Its test split is the other store's. Stores of one
cross-validation share their files by hard links, so that all of them together take the room of one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from histoflow import files, progress
from histoflow.components import SplitName
from histoflow.data.audit.finding import Finding
from histoflow.data.audit.together import Together
from histoflow.data.chunks import save_array
from histoflow.data.dealing import deal_folds
from histoflow.data.laying import SplitWriter, count_classes
from histoflow.data.moments import Sums, mean_and_std, sums_of
from histoflow.data.store import Manifest, PackedStore, SplitFacts, SplitReader, shard_name
from histoflow.errors import DataError, StorageError

_JOINED: tuple[SplitName, SplitName] = ("train", "val")
_CUTTING = 2
"""Raise it when the same data would be cut otherwise."""
_OVERTAKEN = ("copies_in_val", "near_copies_in_val", "groups_in_val", "split_shares")
"""What the audit says of the parent's cut between train and val, which a fold replaces."""
_BLOCK = 256
"""Images read at once."""


def fold_store(parent: Path, folds: int, fold: int) -> PackedStore:
    """The packed store of this fold, counted from 1; made now, as are the others, unless it is there."""
    cut = _Cut(PackedStore(parent), folds)
    folder = cut.folder(fold)
    if not _is_there(folder):
        with _only_one_cuts(cut.lock):
            missing = [number for number in cut.numbers if not _is_there(cut.folder(number))]
            if fold in missing:
                _build(cut, missing)
    folder.touch()  # as good as new to whoever clears away what is old
    return PackedStore(folder)


def folders_of_folds(parent: Path, folds: int) -> list[Path]:
    """Where the stores of this store's folds lie, or will."""
    cut = _Cut(PackedStore(parent), folds)
    return [cut.folder(number) for number in cut.numbers]


def _is_there(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


@contextmanager
def _only_one_cuts(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say("Another process is cutting the same folds; waiting for it to finish.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Part:
    """The images of one part as they lie on disk, and what is known of them."""

    folder: Path
    shards: tuple[int, ...]
    sums: Sums


@dataclass(frozen=True)
class _Cut:
    """How a packed store is cut into folds."""

    store: PackedStore
    folds: int

    @property
    def numbers(self) -> range:
        return range(1, self.folds + 1)

    @property
    def manifest(self) -> Manifest:
        return self.store.manifest

    def fingerprint(self, fold: int) -> str:
        """The seed is part of what determines the parent, and so of this."""
        of = {"of": self.manifest.fingerprint, "folds": self.folds, "fold": fold, "cutting": _CUTTING}
        return files.digest_of_data(of)

    def folder(self, fold: int) -> Path:
        name = f"{self.manifest.dataset['name']}-{self.fingerprint(fold)[:16]}"
        return self.store.folder.with_name(name)

    @property
    def lock(self) -> Path:
        """That of the parent, which must not be removed meanwhile."""
        return self.store.folder.with_name(f"{self.store.folder.name}.lock")

    @cached_property
    def readers(self) -> tuple[SplitReader, ...]:
        return tuple(self.store.split(name) for name in ("train", "val"))

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Of the images of train and val, one after the other: labels, sources and whatever else is known."""
        names = {name for split in _JOINED for name in self.manifest.splits[split].files}
        return {name: np.concatenate(list(self._column(name))) for name in sorted(names)}

    def _column(self, name: str) -> Iterator[NDArray[Any]]:
        for split in _JOINED:
            facts = self.manifest.splits[split]
            if name in facts.files:
                yield np.load(self.store.folder / split / name, allow_pickle=False)
            elif name == "weights.npy":
                yield np.ones(facts.images)  # of a split in which all are alike
            else:
                raise DataError(
                    f"{self.store.folder} has {name} for only one of train and val. Delete it and run again."
                )

    @cached_property
    def parts(self) -> tuple[NDArray[np.int64], ...]:
        """The places of the images of each part, ascending, in train and val one after the other."""
        place = deal_folds(
            self._keys,
            self.columns["labels.npy"],
            self.manifest.classes,
            folds=self.folds,
            seed=int(self.manifest.split["seed"]),
        )
        return tuple(np.flatnonzero(place == part) for part in range(self.folds))

    @property
    def _keys(self) -> NDArray[Any]:
        """What must stay together: groups and copies, and whatever hangs together by these.

        Where there are no groups, images that are the same pixel for pixel take their place.
        """
        hashes, copies = self.columns["hashes.npy"], self.columns["copies.npy"]
        keys = self.columns.get("groups.npy", hashes.view(f"S{hashes.shape[1]}")[:, 0])
        sets = Together(len(keys))
        sets.join_alike(keys)
        sets.join_alike(np.where(copies < 0, -1 - np.arange(len(keys)), copies))
        return keys[sets.all]

    def images(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of these images, whose places ascend."""
        train, val = self.readers
        border = int(np.searchsorted(places, len(train)))
        pixels = np.empty((len(places), *train.shape), np.uint8)
        train.gather(places[:border], out=pixels[:border])
        val.gather(places[border:] - len(train), out=pixels[border:])
        return pixels


def _build(cut: _Cut, missing: Sequence[int]) -> None:
    """Lay down what is missing; what lies in other folds is linked."""
    for number in missing:
        files.remove_unfinished(cut.folder(number))
        shutil.rmtree(cut.folder(number), ignore_errors=True)  # someone took its manifest away
    places = cut.parts  # which may be refused: before the long reading
    cut.store.verify(list(_JOINED))
    _refuse_full_disk(cut, sum(len(places[number - 1]) for number in missing))
    with _workplace(cut.store.folder) as temporary, progress.track("Cutting folds", _count(cut)) as advance:
        parts = []
        for number in cut.numbers:
            made = number in missing
            parts.append(_laid_down(cut, number, temporary) if made else _part_of(cut.folder(number)))
            advance(len(places[number - 1]))
        for number in missing:
            with files.atomic_folder(cut.folder(number)) as folder:
                manifest = _store(cut, parts, number, folder)
                files.write_json(folder / "manifest.json", manifest.model_dump(mode="json"))


def _count(cut: _Cut) -> int:
    return sum(map(len, cut.parts))


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A folder for parts until they are linked; what a killed process left there goes first."""
    path = folder.with_name(f".{folder.name}.parts")
    shutil.rmtree(path, ignore_errors=True)
    try:
        with files.storage_errors(path):
            path.mkdir()
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _laid_down(cut: _Cut, number: int, temporary: Path) -> _Part:
    """Write the images of a part; they stay in the order of the store that they come from."""
    places = cut.parts[number - 1]
    writer = SplitWriter(temporary / str(number), cut.readers[0].shape, len(places))
    sums = np.zeros((3, cut.manifest.channels), np.int64)
    for start in range(0, len(places), _BLOCK):
        pixels = cut.images(places[start : start + _BLOCK])
        sums += sums_of([pixels], cut.manifest.channels)
        writer.add(pixels)
    return _Part(writer.folder, tuple(writer.shards), sums)


def _part_of(folder: Path) -> _Part:
    """The part on which a fold that is there validates."""
    store = PackedStore(folder)
    store.verify(["val"])
    facts = store.manifest.splits["val"]
    sums = sums_of(store.split("val").shards(), store.manifest.channels)
    return _Part(folder / "val", facts.shards, sums)


def _store(cut: _Cut, parts: Sequence[_Part], fold: int, folder: Path) -> Manifest:
    held_out = fold - 1
    others = [part for part in range(cut.folds) if part != held_out]
    facts: dict[SplitName, SplitFacts] = {
        "train": _split(cut, [parts[part] for part in others], _joined(cut, others), folder / "train"),
        "val": _split(cut, [parts[held_out]], cut.parts[held_out], folder / "val"),
        "test": _test(cut, folder / "test"),
    }
    mean, std = mean_and_std(np.sum([parts[part].sums for part in others], axis=0))
    return cut.manifest.model_copy(
        update={
            "fingerprint": cut.fingerprint(fold),
            "split": {**cut.manifest.split, "folds": cut.folds, "fold": fold, "of": cut.manifest.fingerprint},
            "splits": facts,
            "mean": mean,
            "std": std,
            "findings": (*_still_true(cut), _note(cut, fold)),
        }
    )


def _joined(cut: _Cut, parts: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([cut.parts[part] for part in parts])


def _still_true(cut: _Cut) -> Iterator[Finding]:
    """Findings of the parent, but for those of how its train and val were cut."""
    for finding in cut.manifest.findings:
        of_both = finding.check == "shift" and tuple(finding.figures.get("splits", ())) == _JOINED
        if finding.check not in _OVERTAKEN and not of_both:
            yield finding


def _note(cut: _Cut, fold: int) -> Finding:
    return Finding(
        check="folds",
        severity="note",
        message=f"Fold {fold} of {cut.folds}: train and val were joined and cut anew; each group, and all "
        f"copies of an image, stay in one fold. What else the audit says of train and val was found before "
        f"that; what it says of images and of test holds as it is.",
    )


def _split(cut: _Cut, parts: Sequence[_Part], places: NDArray[np.int64], folder: Path) -> SplitFacts:
    folder.mkdir()
    sources = [part.folder / shard_name(shard) for part in parts for shard in range(len(part.shards))]
    for number, source in enumerate(sources):
        files.link(source, folder / shard_name(number))
    columns = {name: column[places] for name, column in cut.columns.items()}
    digests = {}
    for name, column in columns.items():
        save_array(folder / name, column)
        digests[name] = files.digest_of_file(folder / name)
    groups = columns.get("groups.npy")
    facts = {
        "images": len(places),
        "counts": tuple(count_classes(columns["labels.npy"], len(cut.manifest.classes))),
        "groups": None if groups is None else len(np.unique(groups)),
        "shards": tuple(count for part in parts for count in part.shards),
        "files": dict(sorted(digests.items())),
    }
    return cut.manifest.splits["train"].model_copy(update=facts)


def _test(cut: _Cut, folder: Path) -> SplitFacts:
    """The same files; nothing is read, so that the split stays sealed."""
    facts = cut.manifest.splits["test"]
    folder.mkdir()
    for name in (*facts.files, *map(shard_name, range(len(facts.shards)))):
        files.link(cut.store.folder / "test" / name, folder / name)
    return facts


def _refuse_full_disk(cut: _Cut, images: int) -> None:
    needed = images * cut.readers[0].image_bytes
    free = files.free_bytes(cut.store.folder)
    if free < needed:
        raise StorageError(
            f"Cutting {cut.folds} folds needs about {files.in_units(needed)} and "
            f"{cut.store.folder.parent} has {files.in_units(free)} free. "
            f"Make room, or set HISTOFLOW_HOME to a larger disk, and run again."
        )
