"""The folder of a packing under way: decoded images in chunks, each there whole or not at all.

    .<data set>-<key>.decoded/000000000-000000300.npz    what is known of each image of these rows
    .<data set>-<key>.decoded/000000000-000000300.npy    their pixels

A packing that was killed goes on from the chunks that stand here.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import files
from histoflow.data.decoding import Chunk, same_hashes
from histoflow.errors import DataError

CHUNK_BYTES = 8 * 2**20
CHUNK_IMAGES = 1024
_COLUMNS, _REASON, _WHY = "columns", "unreadable/row", "unreadable/reason"


def images_per_chunk(image_bytes: int) -> int:
    """The same for the same data, so that a packing that goes on finds its chunks."""
    return min(CHUNK_IMAGES, max(1, CHUNK_BYTES // image_bytes))


def save_array(path: Path, array: NDArray[Any], told: Callable[[Any], None] | None = None) -> None:
    """``np.save``, but with the operating system's own error when the disk is full.

    ``told`` of each part that is written, for a hash of the file.
    """
    content = array.tobytes() if array.dtype.kind == "U" else np.ascontiguousarray(array).reshape(-1).data
    with path.open("wb") as file:
        for part in (array_header(array.dtype, array.shape), content):
            if told:
                told(part)
            file.write(part)


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
    }
    stem = folder / f"{start:09d}-{stop:09d}"
    own = f".{os.getpid()}.part"
    pixels, table = Path(f"{stem}{own}.npy"), Path(f"{stem}{own}.npz")
    with files.storage_errors(stem):
        try:
            save_array(pixels, chunk.pixels)
            np.savez(table, **known)  # type: ignore[arg-type]
            pixels.replace(f"{stem}.npy")
            table.replace(f"{stem}.npz")
        finally:
            pixels.unlink(missing_ok=True)
            table.unlink(missing_ok=True)


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
    def _stem(self) -> str:
        return str(self.folder / f"{self.start:09d}-{self.stop:09d}")

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """By memory map, as a plain array: of one, images are taken three times as fast."""
        pixels: NDArray[np.uint8] = np.load(f"{self._stem}.npy", mmap_mode="r").view(np.ndarray)
        return pixels

    def read_into(self, images: NDArray[np.uint8]) -> None:
        """Their pixels, in half the time that a memory map takes to come to the same."""
        with Path(f"{self._stem}.npy").open("rb") as file:
            file.seek(-images.nbytes, os.SEEK_END)
            if file.readinto(images.reshape(-1).data) != images.nbytes:
                raise DataError(f"{file.name} is cut short. Run again to have it decoded again.")

    def table(self) -> dict[str, NDArray[Any]]:
        with Path(f"{self._stem}.npz").open("rb") as file, np.load(file, allow_pickle=False) as table:
            records = table[_COLUMNS]
            columns = {name: records[name] for name in records.dtype.names}
            return columns | {name: table[name] for name in (_REASON, _WHY)}

    def is_whole(self) -> bool:
        """Whether it was decoded, and its files are what was written."""
        if not Path(f"{self._stem}.npz").is_file():
            return False
        try:
            table = self.table()
            if len(table["row"]) + len(table[_REASON]) != self.stop - self.start:
                return False
            return not len(table["row"]) or same_hashes(self.pixels, table["hash"])
        except Exception:  # a damaged archive raises anything at all; the chunk is made again
            return False


class DecodedSet:
    """All chunks of a data set, as one table and one row of images."""

    def __init__(self, chunks: Sequence[Stored]) -> None:
        collected: dict[str, list[NDArray[Any]]] = defaultdict(list)
        self.unreadable: list[tuple[int, str]] = []
        """Row and reason."""
        lengths = []
        for chunk in chunks:
            table = chunk.table()
            self.unreadable += zip(table.pop(_REASON).tolist(), table.pop(_WHY).tolist(), strict=True)
            lengths.append(len(table["row"]))
            for name, values in table.items() if lengths[-1] else ():
                collected[name].append(values)
        self._chunks = chunks
        self._starts = np.cumsum([0, *lengths])
        self.columns = {name: np.concatenate(collected.pop(name)) for name in list(collected)}
        """Of the images that could be read, see ``decoding.Chunk``."""

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of each image."""
        return self._chunks[0].pixels.shape[1:]

    def named(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The columns whose names begin like this, without the beginning."""
        found = self.columns.items()
        return {name.removeprefix(prefix): values for name, values in found if name.startswith(prefix)}

    def images(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of the images at these places, in this order."""
        found = np.empty((len(places), *self.shape), np.uint8)
        owner = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            found[here] = self._chunks[number].pixels[places[here] - self._starts[number]]
        return found

    def by_chunk(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """The place of each chunk's first image, and all its images: until the next ones are asked for."""
        starts = self._starts.tolist()
        most = max(end - start for start, end in pairwise(starts))
        buffer = np.empty((most, *self.shape), np.uint8)
        for chunk, (start, end) in zip(self._chunks, pairwise(starts), strict=True):
            images = buffer[: end - start]
            chunk.read_into(images)
            yield start, images


def remove_if_empty(folder: Path) -> None:
    """Keep what is decoded, but leave no folder without anything worth keeping."""
    if folder.is_dir() and not any(folder.glob("*.npz")):
        shutil.rmtree(folder)
