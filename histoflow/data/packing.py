"""Builds the packed store: every image read, preprocessed, dealt to a split and laid down, once."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from histoflow import files, progress
from histoflow.components import SPLITS, Facts, Row, Samples, SplitName, task_of
from histoflow.data.audit.counts import audit, shares
from histoflow.data.audit.finding import Finding
from histoflow.data.splits import Deal, dealer
from histoflow.data.store import SCHEMA, Manifest, Quarantined, SplitFacts, shard_name
from histoflow.errors import DataError, StorageError, UnreadableImage

Image = NDArray[np.uint8]
SHARD_BYTES = 64 * 2**20
_SLICE = 256  # images counted at once: numpy counts in 8 bytes a level


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that determines a packed store; its digest names the store's folder."""

    dataset: Mapping[str, Any]
    dataset_version: int
    raw_digest: str
    preprocess: Sequence[Mapping[str, Any]]
    split: Mapping[str, Any]
    dropped: Sequence[str] = ()
    """The settings of the audit under which images are left out."""

    @property
    def fingerprint(self) -> str:
        return files.digest_of_data({"schema": SCHEMA, **asdict(self)})


def pack(
    recipe: Recipe,
    facts: Facts,
    open_samples: Callable[[], Samples],
    steps: Sequence[Callable[[Image], Image]],
    home: Path,
) -> Path:
    """The folder of the packed store of this recipe; built now unless it is there already."""
    folder = home / f"{recipe.dataset['name']}-{recipe.fingerprint[:16]}"
    if (folder / "manifest.json").is_file():
        progress.say(f"Packed data are there already: {folder}")
        return folder
    with _only_one_builds(folder):
        if not (folder / "manifest.json").is_file():
            files.remove_unfinished(folder)
            shutil.rmtree(folder, ignore_errors=True)  # someone took its manifest away
            with files.atomic_folder(folder) as temporary:
                manifest = _Packing(recipe, facts, open_samples(), steps, temporary).run()
                files.write_json(temporary / "manifest.json", manifest.model_dump(mode="json"))
    return folder


@contextmanager
def _only_one_builds(folder: Path) -> Iterator[None]:
    """Hold the store's lock; say so when another process has it, then wait."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say("Another process is packing the same data; waiting for it to finish.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass
class _SplitWriter:
    """Collects the images of one split and writes them shard by shard."""

    folder: Path
    shard_images: int
    classes: int
    labels: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    shards: list[int] = field(default_factory=list)
    histogram: NDArray[np.int64] | None = None
    _waiting: list[Image] = field(default_factory=list)

    def add(self, image: Image, row: Row, image_hash: str) -> None:
        self.labels.append(row.label)
        self.sources.append(row.source)
        self.groups.append(row.group)
        self.weights.append(row.weight)
        self.hashes.append(image_hash)
        self._waiting.append(image)
        if len(self._waiting) == self.shard_images:
            self._flush()

    def _flush(self) -> None:
        shard = np.stack(self._waiting)
        for start in range(0, len(shard), _SLICE):
            counts = _histogram(shard[start : start + _SLICE])
            self.histogram = counts if self.histogram is None else self.histogram + counts
        _save(self.folder / shard_name(len(self.shards)), shard)
        self.shards.append(len(shard))
        self._waiting.clear()

    def finish(self) -> SplitFacts:
        if self._waiting:
            self._flush()
        grouped = all(group is not None for group in self.groups)
        _save(self.folder / "labels.npy", np.asarray(self.labels, np.int64))
        _save(self.folder / "sources.npy", np.asarray(self.sources, np.str_))
        if grouped:
            _save(self.folder / "groups.npy", np.asarray(self.groups, np.str_))
        if len(set(self.weights)) > 1:
            _save(self.folder / "weights.npy", np.asarray(self.weights, np.float64))
        return SplitFacts(
            images=len(self.labels),
            counts=tuple(np.bincount(self.labels, minlength=self.classes).tolist()),
            groups=len(set(self.groups)) if grouped else None,
            shards=tuple(self.shards),
            files={path.name: files.digest_of_file(path) for path in sorted(self.folder.iterdir())},
        )


class _Packing:
    """One packing under way, into a folder that nobody else sees yet."""

    def __init__(
        self,
        recipe: Recipe,
        facts: Facts,
        samples: Samples,
        steps: Sequence[Callable[[Image], Image]],
        folder: Path,
    ) -> None:
        _refuse_contradictions(facts, samples)
        self._recipe, self._facts, self._samples, self._steps = recipe, facts, samples, steps
        self._folder = folder
        self._deal: Deal = dealer(samples.rows, **recipe.split)
        self._quarantine: list[Quarantined] = []
        self._writers: dict[SplitName, _SplitWriter] = {}
        self._shape: tuple[int, ...] | None = None

    def run(self) -> Manifest:
        rows = self._samples.rows
        with progress.track("Packing", total=len(rows)) as advance:
            for index, row in enumerate(rows):
                self._place(index, row)
                advance()
        if self._shape is None:
            reasons = (
                "; ".join(dict.fromkeys(entry.reason for entry in self._quarantine[:3])) or "there are none"
            )
            raise DataError(f"Not one of {len(rows)} images could be read: {reasons}.")
        _refuse_empty_splits(self._writers)
        return self._manifest({split: self._writers[split].finish() for split in SPLITS})

    def _place(self, index: int, row: Row) -> None:
        try:
            raw = self._samples.read(index)
            _refuse_wrong_type(raw, row)
            _refuse_other_shape(raw, self._facts)
            image = raw
            for step in self._steps:
                image = step(image)
        except UnreadableImage as error:
            self._quarantine.append(Quarantined(source=row.source, reason=str(error)))
            return
        _refuse_wrong_type(image, row)
        self._expect_shape(image, row)
        split = self._deal(row, _hash(raw))
        self._writers[split].add(image, row, _hash(image))

    def _expect_shape(self, image: Image, row: Row) -> None:
        if self._shape is None:
            self._shape = image.shape
            self._start_writers(image.nbytes)
        elif image.shape != self._shape:
            raise DataError(
                f"All images must have one size after preprocessing. "
                f"{row.source} is {_describe(image.shape)}, those before it {_describe(self._shape)}. "
                f"Add {{name: resize, size: {min(self._shape[:2])}}} to preprocess."
            )

    def _start_writers(self, image_bytes: int) -> None:
        _refuse_full_disk(self._folder, image_bytes * len(self._samples.rows))
        for split in SPLITS:
            (self._folder / split).mkdir()
            self._writers[split] = _SplitWriter(
                self._folder / split, max(1, SHARD_BYTES // image_bytes), len(self._samples.classes)
            )

    def _findings(self, counts: Mapping[str, Sequence[int]]) -> list[Finding]:
        found = audit(
            self._samples.classes,
            counts=counts,
            groups={s: [g for g in w.groups if g is not None] for s, w in self._writers.items()},
            image_hashes={split: writer.hashes for split, writer in self._writers.items()},
        )
        return found + shares(counts, asked=_asked_shares(self._samples.rows, self._recipe.split))

    def _manifest(self, splits: dict[SplitName, SplitFacts]) -> Manifest:
        assert self._shape is not None
        mean, std = _mean_and_std(self._writers["train"].histogram)
        classes = self._samples.classes
        return Manifest(
            schema_version=SCHEMA,
            fingerprint=self._recipe.fingerprint,
            dataset=dict(self._recipe.dataset),
            preprocess=tuple(dict(step) for step in self._recipe.preprocess),
            split=dict(self._recipe.split),
            task=task_of(classes),
            classes=classes,
            channels=self._shape[2],
            size=(self._shape[0], self._shape[1]),
            splits=splits,
            mean=mean,
            std=std,
            quarantine=tuple(self._quarantine),
            findings=tuple(self._findings({split: facts.counts for split, facts in splits.items()})),
            licence=self._facts.licence,
            citation=self._facts.citation,
        )


def _save(path: Path, array: NDArray[Any]) -> None:
    """``np.save``, but with the operating system's own error when the disk is full."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.tobytes() if array.dtype.kind == "U" else array.data)


def _asked_shares(rows: Sequence[Row], split: Mapping[str, Any]) -> dict[str, float]:
    """The shares of the splits that were dealt out rather than brought."""
    official = {row.split for row in rows}
    return {name: split[name] for name in ("val", "test") if name not in official}


def _hash(image: Image) -> str:
    digest = hashlib.blake2b(image.tobytes(), digest_size=16)
    digest.update(repr(image.shape).encode())
    return digest.hexdigest()


def _histogram(images: Image) -> NDArray[np.int64]:
    """How often each level occurs, channels × 256."""
    channels = range(images.shape[3])
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in channels])


def _mean_and_std(histogram: NDArray[np.int64] | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact, from how often each level occurs in each channel."""
    assert histogram is not None
    levels = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 0))
    # A channel without any contrast must not be divided by nothing.
    return tuple(mean.tolist()), tuple(np.where(std > 1e-6, std, 1.0).tolist())


def _describe(shape: Sequence[int]) -> str:
    return f"{shape[0]}×{shape[1]} with {shape[2]} channels"


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def _refuse_contradictions(facts: Facts, samples: Samples) -> None:
    rows = samples.rows
    if not rows or len(samples.classes) < 2:
        raise DataError(
            f"A data set needs images of two classes or more. Got {len(rows)} of {samples.classes}."
        )
    strange = next((row for row in rows if not 0 <= row.label < len(samples.classes)), None)
    if strange is not None:
        raise DataError(
            f"The label of {strange.source} must be 0 to {len(samples.classes) - 1}. Got {strange.label}."
        )
    _refuse_half_grouped(rows)
    _refuse_strange_weights(rows)
    found: dict[str, Any] = {
        "classes": samples.classes,
        "task": task_of(samples.classes),
        "images": len(rows),
        "groups": rows[0].group is not None,
        "official_split": rows[0].split is not None,
    }
    for fact, value in found.items():
        stated = getattr(facts, fact)
        # Not stated is None, or False where the default says so: only what was claimed can be contradicted.
        if stated not in (None, False, value):
            raise DataError(
                f"The data contradict their data set's facts: {fact} is {value}, stated was {stated}."
            )


def _refuse_half_grouped(rows: Sequence[Row]) -> None:
    without = [row.source for row in rows if row.group is None]
    if without and len(without) < len(rows):
        raise DataError(
            f"Either every image has a group or none has. {len(without)} of {len(rows)} have none, "
            f"such as {', '.join(without[:3])}. Give them one each, or leave groups out."
        )


def _refuse_strange_weights(rows: Sequence[Row]) -> None:
    strange = next((row for row in rows if not (math.isfinite(row.weight) and row.weight > 0)), None)
    if strange is not None:
        raise DataError(
            f"The weight of {strange.source} must be a finite number above 0. Got {strange.weight}. "
            f"Leave the image out if it shall never be drawn."
        )


def _refuse_wrong_type(image: Any, row: Row) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        got = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise DataError(f"The image {row.source} must be an array H×W×C of uint8. Got {got}.")


def _refuse_other_shape(image: Image, facts: Facts) -> None:
    stated = (*(facts.size or image.shape[:2]), facts.channels or image.shape[2])
    if image.shape != stated:
        raise UnreadableImage(f"it is {_describe(image.shape)}; the data set states {_describe(stated)}")


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = files.free_bytes(folder)
    if free < needed:
        raise StorageError(
            f"Packing needs about {needed / 1e9:.1f} GB and {folder.parent} has {free / 1e9:.1f} GB free. "
            f"Make room, or set HISTOFLOW_HOME to a larger disk, and run again."
        )


def _refuse_empty_splits(writers: Mapping[SplitName, _SplitWriter]) -> None:
    empty = [split for split in SPLITS if not writers[split].labels]
    if empty:
        raise DataError(
            f"No image fell into the {' and '.join(empty)} split: there are too few images or groups "
            f"for the shares asked for. Raise split.val and split.test, change split.seed, or add data."
        )
