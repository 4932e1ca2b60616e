"""The packed store: images decoded, resized and checked once, then read by memory map.

    <folder>/manifest.json              what this is: data set, chain, classes, counts, mean, findings
    <folder>/train/images-00000.npy     uint8, images × height × width × channels
    <folder>/train/labels.npy           and sources.npy, hashes.npy, copies.npy: one entry per image;
                                        groups.npy where there are any, weights.npy where they differ
    <folder>/val/…  <folder>/test/…

Each split has files of its own, so training never opens one that holds a test image.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from histoflow import open_files, progress
from histoflow.components import DataInfo, SplitName, Task
from histoflow.data.audit.finding import Finding
from histoflow.data.hashes import same_hashes
from histoflow.errors import DataError, StorageError
from histoflow.files import digest_of_file, read_json, refuse_newer

SCHEMA = 3


class SplitFacts(BaseModel):
    """What the manifest says of one split."""

    model_config = ConfigDict(frozen=True)

    images: int
    counts: tuple[int, ...]
    """Images per class; in a ``multilabel`` data set images that show it."""
    groups: int | None
    """How many groups; None where the data set knows none."""
    shards: tuple[int, ...]
    """Images in each shard file."""
    files: dict[str, str]
    """SHA-256 of each file but the shards: of these ``hashes.npy`` tells image by image."""


class Quarantined(BaseModel):
    """An image left out, and why."""

    model_config = ConfigDict(frozen=True)

    source: str
    reason: str


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    schema_version: int
    fingerprint: str
    dataset: dict[str, Any]
    preprocess: tuple[dict[str, Any], ...]
    split: dict[str, Any]
    task: Task
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    splits: dict[SplitName, SplitFacts]
    mean: tuple[float, ...]
    """Per channel, of the training images, with pixels from 0 to 1."""
    std: tuple[float, ...]
    quarantine: tuple[Quarantined, ...]
    findings: tuple[Finding, ...]
    licence: str
    citation: str

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            task=self.task,
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            train_counts=self.splits["train"].counts,
            train_images=self.splits["train"].images,
        )


class SplitReader:
    """One split of a packed store; pixels stay on disk until they are gathered."""

    def __init__(self, folder: Path, facts: SplitFacts) -> None:
        self._folder = folder
        self._facts = facts
        self._starts = np.cumsum((0, *facts.shards))

    def __len__(self) -> int:
        return self._facts.images

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of each image."""
        return self._shards[0].shape[1:]

    @property
    def image_bytes(self) -> int:
        """Of one image."""
        return int(np.prod(self.shape))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """One number per image; in ``multilabel`` data images × classes of 0 and 1, uint8.

        Read by memory map as well: of a hundred million images they are nearly a gigabyte.
        """
        labels: NDArray[np.int64] = np.load(self._folder / "labels.npy", mmap_mode="r").view(np.ndarray)
        return labels

    @cached_property
    def sources(self) -> NDArray[np.str_]:
        return self._column("sources")

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        return None if self._facts.groups is None else self._column("groups")

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """N×16: alike for images that are alike pixel for pixel."""
        return self._column("hashes")

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Alike for images, of whichever split, that hang together as copies, turned and changed ones too; -1
        for images without."""
        return self._column("copies")

    @cached_property
    def weights(self) -> NDArray[np.float64] | None:
        """How often each image is to be drawn beside the others; None where all are alike."""
        return self._column("weights") if "weights.npy" in self._facts.files else None

    @cached_property
    def _maps(self) -> list[np.memmap[Any, np.dtype[np.uint8]]]:
        open_files.allow_many()
        shards = [self._folder / shard_name(index) for index in range(len(self._facts.shards))]
        try:
            return [np.load(shard, mmap_mode="r") for shard in shards]
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            raise StorageError(
                f"The {self.name} split lies in {len(shards):,} files, and this process may not open "
                f"so many. Allow more ('ulimit -n 65536' in the shell that starts it), and run again."
            ) from error

    @cached_property
    def _shards(self) -> list[NDArray[np.uint8]]:
        """The maps as plain arrays, of which a single image is taken three times as fast."""
        return [shard.view(np.ndarray) for shard in self._maps]

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        return column

    def shards(self) -> Iterator[NDArray[np.uint8]]:
        """The images as they lie on disk, one memory map after the other."""
        return iter(self._shards)

    def gather(self, indices: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The images at these places, in this order; in ``out`` where it is given."""
        images = np.empty((len(indices), *self.shape), np.uint8) if out is None else out
        if len(self._shards) == 1:
            # Told to clip, numpy writes straight into ``out``; places out of range are no case here.
            return np.take(self._shards[0], indices, axis=0, out=images, mode="clip")
        for row, (shard, place) in enumerate(zip(*self._find(indices), strict=True)):
            images[row] = self._shards[shard][place]
        return images

    def checked(self) -> Iterator[tuple[Path, int | None]]:
        """Each file, and how many images it holds: None if it is missing or damaged."""
        for name, expected in self._facts.files.items():
            path = self._folder / name
            yield path, 0 if path.is_file() and digest_of_file(path) == expected else None
        for number, (start, stop) in enumerate(pairwise(self._starts.tolist())):
            path = self._folder / shard_name(number)
            yield path, stop - start if _holds(path, self.hashes[start:stop]) else None

    def _find(self, indices: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """In which shard each image lies, and where in it."""
        shard = np.searchsorted(self._starts, indices, side="right") - 1
        return shard.tolist(), (indices - self._starts[shard]).tolist()

    def will_need(self, start: int, stop: int) -> None:
        """Have the system read these images while others are worked on."""
        self._advise("MADV_WILLNEED", start, stop)

    def done_with(self, start: int, stop: int) -> None:
        """Give the memory back that these images fill; they can be read again."""
        self._advise("MADV_DONTNEED", start, stop)

    def _advise(self, advice: str, start: int, stop: int) -> None:
        if not hasattr(mmap, advice):  # not on this system
            return
        first, last = np.searchsorted(self._starts, (start, stop - 1), side="right") - 1
        for shard in range(first, last + 1):
            begin, end = (
                min(max(at - self._starts[shard], 0), len(self._maps[shard])) for at in (start, stop)
            )
            _advise_pages(self._maps[shard], getattr(mmap, advice), int(begin), int(end))


def _holds(shard: Path, hashes: NDArray[np.uint8]) -> bool:
    """Whether these are the images of the shard."""
    try:
        images = np.load(shard, mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError):
        return False
    return images.dtype == np.uint8 and images.ndim == 4 and same_hashes(images, hashes)


def _advise_pages(shard: np.memmap[Any, Any], advice: int, begin: int, end: int) -> None:
    size = shard.nbytes // len(shard)
    first = (shard.offset + begin * size) // mmap.PAGESIZE * mmap.PAGESIZE
    assert isinstance(shard.base, mmap.mmap)
    shard.base.madvise(advice, first, shard.offset + end * size - first)


class PackedStore:
    """A finished packed store. The test split is sealed: reading it takes a word of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)

    def split(self, name: Literal["train", "val"]) -> SplitReader:
        if name not in ("train", "val"):
            raise DataError(
                f"The {name} split is sealed: only an evaluation opens it, and records that it did."
            )
        return SplitReader(self.folder / name, self.manifest.splits[name])

    def unseal_test(self) -> SplitReader:
        """The test split; for evaluations alone, which must record the opening first."""
        return SplitReader(self.folder / "test", self.manifest.splits["test"])

    def verify(self, splits: Sequence[SplitName]) -> None:
        """Compare the files of these splits with the manifest's hashes, and the images with their own."""
        readers = [SplitReader(self.folder / split, self.manifest.splits[split]) for split in splits]
        with progress.track("Checking packed data", total=sum(map(len, readers))) as advance:
            for split in readers:
                for path, images in split.checked():
                    if images is None:
                        raise DataError(
                            f"The packed file {path} is missing or damaged: its content is not what the "
                            f"manifest tells. Delete {self.folder} and run again to pack anew."
                        )
                    advance(images)


def read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        data = read_json(path)
        refuse_newer(path, data.get("schema_version"), SCHEMA, DataError)
        _refuse_older(path, data.get("schema_version"))
        return Manifest.model_validate(data)
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is missing or damaged ({error}). Delete {folder} and run again.") from error


def _refuse_older(path: Path, schema: Any) -> None:
    if isinstance(schema, int) and schema < SCHEMA:
        raise DataError(
            f"{path} was made by an older histoflow (schema {schema}; this one reads {SCHEMA}). "
            f"Its images must be packed again: start a new run of the same experiment."
        )


def shard_name(index: int) -> str:
    return f"images-{index:05d}.npy"
