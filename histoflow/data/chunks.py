"""The folder of a packing under way: decoded images in chunks, each there whole or not at all.

    .<data set>-<key>.decoded/000000000-000000600.npz          what is known of each image of these rows
    .<data set>-<key>.decoded/000000000-000000600.train.npy    the pixels of those that belong to train

A packing that was killed goes on from the chunks that stand here. The files of large splits become those of
the store, so that no image is written twice.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import files
from histoflow.components import SPLITS, SplitName
from histoflow.data.decoding import Chunk
from histoflow.data.hashes import same_hashes

CHUNK_BYTES, MOST_BYTES = 16 * 2**20, 256 * 2**20
CHUNK_IMAGES = 2048
_MOST_CHUNKS = 128
"""Of a large set, whose chunks grow with it: each becomes a file, and a split's files are opened together."""
_COLUMNS, _REASON, _WHY, _ROWS = "columns", "unreadable/row", "unreadable/reason", "rows"


def images_per_chunk(image_bytes: int, rows: int) -> int:
    """The same for the same data, so that a packing that goes on finds its chunks."""
    share = -(-rows // _MOST_CHUNKS)
    images = min(max(CHUNK_IMAGES, share), max(CHUNK_BYTES // image_bytes, share))
    return max(1, min(images, MOST_BYTES // image_bytes))


def save_array(path: Path, array: NDArray[Any]) -> None:
    """``np.save``, but with the operating system's own error when the disk is full."""
    content = array.tobytes() if array.dtype.kind == "U" else np.ascontiguousarray(array).reshape(-1).data
    with path.open("wb") as file:
        file.write(array_header(array.dtype, array.shape))
        file.write(content)


def array_header(kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands before the content of an npy file."""
    header = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, told)
    return header.getvalue()


def write_chunk(folder: Path, start: int, stop: int, chunk: Chunk) -> None:
    """Pixels first: where the table stands, the chunk is complete."""
    known = {
        _COLUMNS: _records(chunk.columns),
        _REASON: np.array(list(chunk.unreadable), np.int64),
        _WHY: np.array(list(chunk.unreadable.values()), np.str_),
        _ROWS: np.array(chunk.rows),
    }
    stored = Stored(folder, start, stop)
    with files.storage_errors(folder):
        for name, pixels in _by_split(chunk):
            with _in_place_of(stored.pixel_file(name)) as temporary:
                save_array(temporary, pixels)
                files.begin_sync(temporary)
        with _in_place_of(stored.table_file) as temporary:
            np.savez(temporary, **known)  # type: ignore[arg-type]


def _by_split(chunk: Chunk) -> Iterator[tuple[SplitName, NDArray[np.uint8]]]:
    """Of those that have images here."""
    for number, name in enumerate(SPLITS):
        here = chunk.columns["split"] == number
        if here.any():
            yield name, chunk.pixels if here.all() else chunk.pixels[here]


@contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """A file of this process's own, which takes the place when it is whole."""
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _records(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    """As one array, which is read and written much faster than one for each column."""
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    records = np.empty(len(columns["row"]), kinds)
    for name, values in columns.items():
        records[name] = values
    return records


@dataclass(frozen=True)
class Stored:
    """A chunk on disk."""

    folder: Path
    start: int
    stop: int

    @property
    def table_file(self) -> Path:
        return self.folder / f"{self.start:09d}-{self.stop:09d}.npz"

    def pixel_file(self, split: SplitName) -> Path:
        return self.table_file.with_suffix(f".{split}.npy")

    def pixels(self, split: SplitName) -> NDArray[np.uint8]:
        """By memory map, as a plain array: of one, images are taken three times as fast."""
        pixels: NDArray[np.uint8] = np.load(self.pixel_file(split), mmap_mode="r").view(np.ndarray)
        return pixels

    def table(self) -> dict[str, NDArray[Any]]:
        with self.table_file.open("rb") as file, np.load(file, allow_pickle=False) as table:
            records = table[_COLUMNS]
            columns = {name: records[name] for name in records.dtype.names}
            return columns | {name: table[name] for name in (_REASON, _WHY, _ROWS)}

    def is_whole(self, rows: str) -> bool:
        """Whether it was decoded of the rows of this digest, and its files are what was written."""
        if not self.table_file.is_file():
            return False
        try:
            table = self.table()
            if str(table[_ROWS]) != rows:
                return False
            if len(table["row"]) + len(table[_REASON]) != self.stop - self.start:
                return False
            found = {number: table["hash"][table["split"] == number] for number in range(len(SPLITS))}
            return all(
                same_hashes(self.pixels(SPLITS[number]), hashes)
                for number, hashes in found.items()
                if len(hashes)
            )
        except Exception:  # a damaged archive raises anything at all; the chunk is made again
            return False


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one chunk that belong to one split, in a file of their own."""

    file: Path
    places: NDArray[np.int64]
    """Of the images, among those of the whole data set."""

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = np.load(self.file, mmap_mode="r").view(np.ndarray)
        return pixels


class DecodedSet:
    """All chunks of a data set, as one table and one row of images."""

    def __init__(self, chunks: Sequence[Stored]) -> None:
        collected: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self.unreadable: list[tuple[int, str]] = []
        """Row and reason."""
        self.parts: dict[SplitName, list[Part]] = {name: [] for name in SPLITS}
        """In the order of the rows."""
        self._length = 0
        for chunk in chunks:
            table = chunk.table()
            del table[_ROWS]
            self.unreadable += zip(table.pop(_REASON).tolist(), table.pop(_WHY).tolist(), strict=True)
            self._add_parts(chunk, table["split"])
            for name, values in table.items() if len(table["row"]) else ():
                collected[name].append(values)
        self.columns = {name: np.concatenate(collected.pop(name)) for name in list(collected)}
        """Of the images that could be read, see ``decoding.Chunk``."""

    def _add_parts(self, chunk: Stored, splits: NDArray[np.int8]) -> None:
        for number, name in enumerate(SPLITS):
            places = self._length + np.flatnonzero(splits == number)
            if len(places):
                self.parts[name].append(Part(chunk.pixel_file(name), places))
        self._length += len(splits)

    def __len__(self) -> int:
        return self._length

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of each image."""
        return self._all_parts[0].pixels.shape[1:]

    @cached_property
    def _all_parts(self) -> list[Part]:
        return [part for parts in self.parts.values() for part in parts]

    @cached_property
    def _where(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each image the number of its part, and its place in that."""
        owner, at = np.empty((2, len(self)), np.int64)
        for number, part in enumerate(self._all_parts):
            owner[part.places], at[part.places] = number, np.arange(len(part.places))
        return owner, at

    def named(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The columns whose names begin like this, without the beginning."""
        found = self.columns.items()
        return {name.removeprefix(prefix): values for name, values in found if name.startswith(prefix)}

    def images(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of the images at these places, in this order."""
        found = np.empty((len(places), *self.shape), np.uint8)
        owner, at = (column[places] for column in self._where)
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            found[here] = self._all_parts[number].pixels[at[here]]
        return found


def remove_if_empty(folder: Path) -> None:
    """Keep what is decoded, but leave no folder without anything worth keeping."""
    if folder.is_dir() and not any(folder.glob("*.npz")):
        shutil.rmtree(folder)
