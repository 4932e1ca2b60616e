"""Lays the images of a split down in the files of a packed store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import files
from histoflow.components import Row, Samples
from histoflow.data.chunks import Part, array_header, save_array
from histoflow.data.store import SplitFacts, shard_name

SHARD_BYTES = 64 * 2**20
FILE_BYTES = 2**20
"""Files of a split have so many on average; opening smaller ones would take longer than reading them."""


def worth_linking(parts: Sequence[Part], image_bytes: int) -> bool:
    """Whether these parts' files are to become shards: not if one shard holds all, nor if they are small.

    A split is read by opening all its files.
    """
    held = sum(len(part.places) for part in parts) * image_bytes
    return held > SHARD_BYTES and held >= len(parts) * FILE_BYTES


class _Shard:
    """A file that is given its images little by little."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.images = path, shape[0]
        self.left = self.images
        self._append(array_header(np.dtype(np.uint8), shape))

    def add(self, images: NDArray[np.uint8]) -> None:
        self._append(images.reshape(-1).data)
        self.left -= len(images)

    def _append(self, part: Any) -> None:
        with self.path.open("ab") as file:
            file.write(part)


@dataclass
class SplitWriter:
    """Collects the images of one split and writes them shard by shard."""

    folder: Path
    shape: tuple[int, ...]
    total: int
    """How many will come."""
    links: bool = False
    """Whether files of parts that are taken over become shards as they are."""
    shards: list[int] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    _left: int = field(init=False)
    _shard: _Shard | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self._left = self.total

    def add(self, images: NDArray[np.uint8], places: NDArray[np.int64] | None = None) -> None:
        """Take the images at these places; all of them where there is no choice."""
        places = np.arange(len(images)) if places is None else places
        while len(places):
            self._shard = shard = self._shard or self._begin(self._left)
            taken, places = places[: shard.left], places[shard.left :]
            # Told to clip, numpy is quicker; places out of range are no case here.
            shard.add(images.take(taken, axis=0, mode="clip"))
            if not shard.left:
                self._end(shard)

    def take_over(self, part: Part, kept: NDArray[np.int64]) -> None:
        """Those of a part's images that are at these of its places."""
        if not self.links:
            self.add(part.pixels, kept)
        elif len(kept) == len(part.places):
            self._link(part)
        elif len(kept):
            shard = self._begin(len(kept))
            shard.add(part.pixels[kept])
            self._end(shard)

    def _link(self, part: Part) -> None:
        files.link(part.file, self.folder / shard_name(len(self.shards)))
        self.shards.append(len(part.places))
        self._left -= len(part.places)

    def _begin(self, images: int) -> _Shard:
        most = max(1, SHARD_BYTES // int(np.prod(self.shape)))
        return _Shard(self.folder / shard_name(len(self.shards)), (min(images, most), *self.shape))

    def _end(self, shard: _Shard) -> None:
        self.shards.append(shard.images)
        self._left -= shard.images
        self._shard = None

    def _save(self, name: str, array: NDArray[Any]) -> None:
        save_array(self.folder / name, array)
        self.digests[name] = files.digest_of_file(self.folder / name)

    def finish(
        self, rows: Sequence[Row], labels: NDArray[Any], more: Mapping[str, NDArray[Any]], classes: int
    ) -> SplitFacts:
        """Write what is known of the images, which came in this order; ``more`` is written as it is."""
        assert not self._left
        groups = [row.group for row in rows if row.group is not None]
        grouped = len(groups) == len(rows)
        for name, column in _columns(rows, labels, more, groups if grouped else None).items():
            self._save(f"{name}.npy", column)
        return SplitFacts(
            images=len(rows),
            counts=tuple(count_classes(labels, classes)),
            groups=len(set(groups)) if grouped else None,
            shards=tuple(self.shards),
            files=dict(sorted(self.digests.items())),
        )


def _columns(
    rows: Sequence[Row], labels: NDArray[Any], more: Mapping[str, NDArray[Any]], groups: Sequence[str] | None
) -> Mapping[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        "labels": labels,
        "sources": np.asarray([row.source for row in rows], np.str_),
        **more,
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
