"""Lays the images of a split down in the files of a packed store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import Row, Samples
from histoflow.data.chunks import save_array
from histoflow.data.store import SplitFacts, shard_name

SHARD_BYTES = 64 * 2**20


@dataclass
class SplitWriter:
    """Collects the images of one split and writes them shard by shard."""

    folder: Path
    shape: tuple[int, ...]
    total: int
    """How many will come."""
    shards: list[int] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    _filled: int = 0
    _left: int = field(init=False)
    _buffer: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._left = self.total
        self._buffer = np.empty((self._next, *self.shape), np.uint8)

    @property
    def _next(self) -> int:
        """Images of the shard under way."""
        most = max(1, SHARD_BYTES // int(np.prod(self.shape)))
        return min(self._left, most)

    def add(self, images: NDArray[np.uint8], places: NDArray[np.int64] | None = None) -> None:
        """Take the images at these places; all of them where there is no choice."""
        places = np.arange(len(images)) if places is None else places
        while len(places):
            taken = places[: self._next - self._filled]
            end = self._filled + len(taken)
            # Told to clip, numpy writes straight into ``out``; places out of range are no case here.
            np.take(images, taken, axis=0, out=self._buffer[self._filled : end], mode="clip")
            self._filled, places = end, places[len(taken) :]
            if self._filled == self._next:
                self._flush()

    def _flush(self) -> None:
        shard = self._buffer[: self._filled]
        name = shard_name(len(self.shards))
        self._save(name, shard)
        self.shards.append(len(shard))
        self._left -= len(shard)
        self._filled = 0

    def _save(self, name: str, array: NDArray[Any]) -> None:
        """Hashed by one thread while another writes."""
        digest = hashlib.sha256()
        with ThreadPoolExecutor(1) as beside:
            hashed = []
            save_array(
                self.folder / name, array, lambda part: hashed.append(beside.submit(digest.update, part))
            )
        for part in hashed:
            part.result()
        self.digests[name] = digest.hexdigest()

    def finish(
        self, rows: Sequence[Row], labels: NDArray[Any], hashes: NDArray[np.uint8], classes: int
    ) -> SplitFacts:
        """Write what is known of the images, which came in this order."""
        assert not self._left
        groups = [row.group for row in rows if row.group is not None]
        grouped = len(groups) == len(rows)
        for name, column in _columns(rows, labels, hashes, groups if grouped else None).items():
            self._save(f"{name}.npy", column)
        return SplitFacts(
            images=len(rows),
            counts=tuple(count_classes(labels, classes)),
            groups=len(set(groups)) if grouped else None,
            shards=tuple(self.shards),
            files=dict(sorted(self.digests.items())),
        )


def _columns(
    rows: Sequence[Row], labels: NDArray[Any], hashes: NDArray[np.uint8], groups: Sequence[str] | None
) -> Mapping[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        "labels": labels,
        "sources": np.asarray([row.source for row in rows], np.str_),
        "hashes": hashes,
    }
    if groups is not None:
        columns["groups"] = np.asarray(groups, np.str_)
    weights = [row.weight for row in rows]
    if len(set(weights)) > 1:
        columns["weights"] = np.asarray(weights, np.float64)
    return columns


def labels_of(rows: Sequence[Row], samples: Samples) -> NDArray[Any]:
    """N int64; or, where an image may show several classes, N × classes uint8 of zeros and ones."""
    if samples.task != "multilabel":
        return np.array([row.label for row in rows], np.int64)
    shown = np.zeros((len(rows), len(samples.classes)), np.uint8)
    for place, row in enumerate(rows):
        shown[place, list(row.label) if isinstance(row.label, tuple) else [row.label]] = 1
    return shown


def count_classes(labels: NDArray[Any], classes: int) -> list[int]:
    """How many images show each class."""
    counts = (
        labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=classes)
    )
    return [int(count) for count in counts]
