"""The packed store: images decoded, resized and checked once, then read by memory map.

    <folder>/manifest.json              what this is: data set, chain, classes, counts, mean, findings
    <folder>/train/images-00000.npy     uint8, images × height × width × channels
    <folder>/train/labels.npy           and groups.npy, sources.npy: one entry per image
    <folder>/val/…  <folder>/test/…

Each split has files of its own, so training never opens one that holds a test image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from histoflow import progress
from histoflow.components import DataInfo, SplitName, Task
from histoflow.data.audit import Finding
from histoflow.errors import DataError
from histoflow.files import digest_of_file, read_json, refuse_newer

SCHEMA = 1


class SplitFacts(BaseModel):
    """What the manifest says of one split."""

    model_config = ConfigDict(frozen=True)

    images: int
    counts: tuple[int, ...]
    """Images per class."""
    groups: int | None
    """How many groups; None where the data set knows none."""
    shards: tuple[int, ...]
    """Images in each shard file."""
    files: dict[str, str]
    """SHA-256 of each file."""


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
        )


class SplitReader:
    """One split of a packed store; pixels stay on disk until they are gathered."""

    def __init__(self, folder: Path, facts: SplitFacts) -> None:
        self._folder = folder
        self._facts = facts
        self._starts = np.cumsum((0, *facts.shards))

    def __len__(self) -> int:
        return self._facts.images

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return self._column("labels")

    @cached_property
    def sources(self) -> NDArray[np.str_]:
        return self._column("sources")

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        return None if self._facts.groups is None else self._column("groups")

    @cached_property
    def _shards(self) -> list[NDArray[np.uint8]]:
        return [
            np.load(self._folder / shard_name(index), mmap_mode="r")
            for index in range(len(self._facts.shards))
        ]

    def _column(self, name: str) -> NDArray[Any]:
        column: NDArray[Any] = np.load(self._folder / f"{name}.npy", allow_pickle=False)
        return column

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at these places, in this order."""
        if len(self._shards) == 1:
            return self._shards[0][indices]
        images = np.empty((len(indices), *self._shards[0].shape[1:]), np.uint8)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for shard in np.unique(shard_of):
            inside = shard_of == shard
            images[inside] = self._shards[shard][indices[inside] - self._starts[shard]]
        return images


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
        """Compare the files of these splits with the manifest's hashes."""
        hashes = {
            self.folder / split / name: expected
            for split in splits
            for name, expected in self.manifest.splits[split].files.items()
        }
        with progress.track("Checking packed data", total=len(hashes), unit="files") as advance:
            for path, expected in hashes.items():
                if not path.is_file() or digest_of_file(path) != expected:
                    raise DataError(
                        f"The packed file {path} is missing or damaged: its hash is not the one in the "
                        f"manifest. Delete {self.folder} and run again to pack anew."
                    )
                advance()


def read_manifest(folder: Path) -> Manifest:
    path = folder / "manifest.json"
    try:
        data = read_json(path)
        refuse_newer(path, data.get("schema_version"), SCHEMA, DataError)
        return Manifest.model_validate(data)
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is missing or damaged ({error}). Delete {folder} and run again.") from error


def shard_name(index: int) -> str:
    return f"images-{index:05d}.npy"
