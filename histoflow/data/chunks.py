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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import files
from histoflow.data.decoding import Chunk, same_hashes

CHUNK_BYTES = 8 * 2**20
CHUNK_IMAGES = 1024
_REASON, _WHY = "unreadable/row", "unreadable/reason"


def images_per_chunk(image_bytes: int) -> int:
    """The same for the same data, so that a packing that goes on finds its chunks."""
    return min(CHUNK_IMAGES, max(1, CHUNK_BYTES // image_bytes))


def save_array(path: Path, array: NDArray[Any], told: Callable[[Any], None] | None = None) -> None:
    """``np.save``, but with the operating system's own error when the disk is full.

    ``told`` of each part that is written, for a hash of the file.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    content = array.tobytes() if array.dtype.kind == "U" else np.ascontiguousarray(array).reshape(-1).data
    with path.open("wb") as file:
        for part in (header.getvalue(), content):
            if told:
                told(part)
            file.write(part)


def write_chunk(folder: Path, start: int, stop: int, chunk: Chunk) -> None:
    """Pixels first: where the table stands, the chunk is complete."""
    unreadable = {
        _REASON: np.array(list(chunk.unreadable), np.int64),
        _WHY: np.array(list(chunk.unreadable.values()), np.str_),
    }
    stem = folder / f"{start:09d}-{stop:09d}"
    own = f".{os.getpid()}.part"
    pixels, table = Path(f"{stem}{own}.npy"), Path(f"{stem}{own}.npz")
    with files.storage_errors(stem):
        try:
            save_array(pixels, chunk.pixels)
            np.savez(table, **chunk.columns, **unreadable)  # type: ignore[arg-type]
            pixels.replace(f"{stem}.npy")
            table.replace(f"{stem}.npz")
        finally:
            pixels.unlink(missing_ok=True)
            table.unlink(missing_ok=True)


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

    def table(self) -> dict[str, NDArray[Any]]:
        with Path(f"{self._stem}.npz").open("rb") as file, np.load(file, allow_pickle=False) as table:
            return {name: table[name] for name in table.files}

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
        """The place of each chunk's first image, and all its images."""
        for start, chunk in zip(self._starts.tolist(), self._chunks, strict=False):
            yield start, chunk.pixels


def remove_if_empty(folder: Path) -> None:
    """Keep what is decoded, but leave no folder without anything worth keeping."""
    if folder.is_dir() and not any(folder.glob("*.npz")):
        shutil.rmtree(folder)
