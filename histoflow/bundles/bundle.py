"""A bundle: one file that holds a model and all that is needed to use it elsewhere.

    manifest.json         what the model is and needs, how it was checked, the hash of every other entry
    weights.safetensors   the network's weights
    model.onnx            stored pixels in, calibrated probabilities out; where it was asked for
    model.pt2             the same as a program of torch.export; where it was asked for
    MODEL_CARD.md         where the run has one
    README.md             how to use all this

It is a zip file whose entries are stored as they are. Nothing of it is unpacked to disk or unpickled; an
entry that the manifest does not name, or whose hash is another, makes the whole a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from histoflow import __version__, files
from histoflow.components import DataInfo, Task
from histoflow.errors import BundleError
from histoflow.evaluation.fitting import Fitted

FORMAT = 1
SUFFIX = ".histoflow"
MANIFEST, WEIGHTS, ONNX, PROGRAM = "manifest.json", "weights.safetensors", "model.onnx", "model.pt2"
CARD, README = "MODEL_CARD.md", "README.md"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LARGEST_MANIFEST = 2**24
_FEWEST_CLASSES: Mapping[Task, int] = {"binary": 2, "multiclass": 2, "multilabel": 1}
_PIECE = 2**20
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every entry, so that the same model makes the same file."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Part(_Record):
    """A component that the model is made of, and the distribution that has it."""

    name: str
    params: dict[str, Any]
    package: str
    version: str
    """Of the distribution."""
    revision: int | None = None
    """Of a preprocessing: another one gives other images."""


class Figure(_Record):
    value: float | None
    interval: tuple[float, float] | None = None
    """At 95 %."""
    note: str = ""
    """Why there is no figure, or no interval."""


class Form(_Record):
    """One way in which the bundle holds the model, and how near it comes to the run's own."""

    largest_difference: float
    """Between its probabilities and those of the run's network, over all images and classes."""
    images: int
    checked_on: Literal["validation images", "random images"]
    made_by: str


class Manifest(_Record):
    """The content of manifest.json."""

    format: int = FORMAT
    run: str
    model: str
    """The hash of the weights file, by which results refer to this very model."""
    histoflow: str
    """The version that made the bundle."""
    created: str
    task: Task
    classes: tuple[str, ...]
    channels: PositiveInt
    size: tuple[PositiveInt, PositiveInt]
    """Height and width after preprocessing."""
    mean: tuple[float, ...]
    """Per channel, of pixels from 0 to 1."""
    std: tuple[PositiveFloat, ...]
    train_counts: tuple[int, ...]
    """Training images per class, which some components ask for when they are built."""
    train_images: int
    seed: int
    """What chance there is in building the network follows from it."""
    preprocess: tuple[Part, ...]
    """What is done to an image before its pixels go into the network, in this order."""
    architecture: Part
    loss: Part
    """It turns the network's outputs into probabilities."""
    requires: dict[str, str]
    """Distributions that must be installed, and the versions that will do."""
    fitted: Fitted | None
    """Temperature, thresholds and levels of prediction sets; None where the run was not evaluated."""
    figures: dict[str, Figure]
    """On the sealed test split."""
    test_images: int | None
    data: dict[str, Any]
    """What it was trained on: the data set, its fingerprint, licence and citation, images in each split."""
    forms: dict[str, Form]
    """By the name of the entry."""
    files: dict[str, str]
    """SHA-256 of every other entry."""
    sha256: str = ""
    """Of all the above, and so of the whole bundle."""

    @model_validator(mode="after")
    def _refuse_misfit(self) -> Self:
        if problem := self._problem():
            raise ValueError(problem)
        return self

    def _problem(self) -> str:
        """What of it does not fit together, if anything."""
        classes = len(self.classes)
        if classes != len(set(self.classes)) or classes < _FEWEST_CLASSES[self.task]:
            return f"the classes of a {self.task} task cannot be {self.classes}"
        if self.task == "binary" and classes != 2:
            return f"a binary task has 2 classes, and there are {classes}"
        for name, per_channel in (("mean", self.mean), ("std", self.std)):
            if len(per_channel) != self.channels:
                found = len(per_channel)
                return f"{name} must have a figure for each of {self.channels} channels, and has {found}"
        if len(self.train_counts) not in (0, classes):
            return f"train_counts must have a figure for each of {classes} classes"
        return self._problem_of(self.fitted) if self.fitted else ""

    def _problem_of(self, fitted: Fitted) -> str:
        if fitted.model != self.model:
            return f"fitted is of model {fitted.model[:16]}, and not of {self.model[:16]}"
        if (fitted.task == "multilabel") != (self.task == "multilabel"):
            return f"fitted is of a {fitted.task} task, and the model of a {self.task} one"
        problem = fitted.problem_with(len(self.classes))
        return f"fitted: {problem}" if problem else ""

    @property
    def info(self) -> DataInfo:
        return DataInfo(
            task=self.task,
            classes=self.classes,
            channels=self.channels,
            size=self.size,
            train_counts=self.train_counts,
            train_images=self.train_images,
        )

    def hash(self) -> str:
        return files.digest_of_data(self.model_dump(mode="json", exclude={"sha256"}))

    def sealed(self) -> Manifest:
        """The same with the hash of its content."""
        return self.model_copy(update={"sha256": self.hash()})


@dataclass(frozen=True)
class Bundle:
    """A bundle whose entries have been found whole, and to be those that its manifest names."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        with _archive(self.path) as archive:
            content = archive.read(name)
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name]:
            raise _changed(self.path, name)
        return content


def write(path: Path, manifest: Manifest, contents: Mapping[str, Path]) -> None:
    """Put the manifest and these files together at a path at which nothing is lost."""
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(MANIFEST), manifest.model_dump_json(indent=2) + "\n")
        for name, source in contents.items():
            with source.open("rb") as content, archive.open(_entry(name), "w", force_zip64=True) as target:
                while piece := content.read(_PIECE):
                    target.write(piece)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.external_attr = 0o644 << 16
    return entry


def open_bundle(path: Path, sha256: str | None = None) -> Bundle:
    """The bundle at this path, every entry checked; with ``sha256`` it must be that very one."""
    with _archive(path) as archive:
        entries = _entries(path, archive)
        manifest = _manifest(path, _content(path, archive, entries))
        _refuse_other_hash(path, manifest, sha256)
        _refuse_other_entries(path, entries.keys() - {MANIFEST}, manifest.files.keys())
        for name, expected in manifest.files.items():
            with archive.open(name) as content:
                if _digest(content) != expected:
                    raise _changed(path, name)
    if manifest.files.get(WEIGHTS) != manifest.model:
        raise BundleError(f"{path} does not hold the weights of the model that it describes. {_AGAIN}")
    return Bundle(path, manifest)


_AGAIN = "Get the bundle again from whoever made it, or make it anew: histoflow export RUN"


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip file; whatever is the matter with it is told as one kind of error."""
    if not path.is_file():
        raise BundleError(
            f"A bundle is a file that 'histoflow export RUN' wrote. There is no file {path}. Check the path."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is damaged, or no bundle at all: {error}. {_AGAIN}") from error


def _entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """By name, which must be plain, and each there once."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if not _NAME.fullmatch(entry.filename) or entry.filename in found:
            raise BundleError(
                f"The entries of a bundle must have plain names, each there once. {path} holds "
                f"{entry.orig_filename!r}. {_AGAIN}"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleError(
                f"The entries of a bundle are stored as they are; {path} was packed anew. {_AGAIN}"
            )
        found[entry.filename] = entry
    return found


def _content(path: Path, archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> bytes:
    """That of the manifest."""
    if MANIFEST not in entries or entries[MANIFEST].file_size > _LARGEST_MANIFEST:
        raise BundleError(f"{path} has no {MANIFEST}, so it is no bundle. {_AGAIN}")
    return archive.read(MANIFEST)


def _manifest(path: Path, content: bytes) -> Manifest:
    data = json.loads(content)
    if isinstance(data, dict) and data.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {data.get('format')}, written by histoflow {data.get('histoflow', '?')}, and "
            f"this histoflow ({__version__}) reads format {FORMAT}. Install that one, or write the bundle "
            f"again with this one: histoflow export RUN"
        )
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f" at {part}" for part in [".".join(map(str, first["loc"]))] if part)
        reason = first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{MANIFEST} of {path} is damaged{place}: {reason}. {_AGAIN}") from error


def _refuse_other_hash(path: Path, manifest: Manifest, wanted: str | None) -> None:
    if manifest.sha256 != manifest.hash():
        raise _changed(path, MANIFEST)
    if wanted is not None and wanted != manifest.sha256:
        raise BundleError(
            f"sha256 must be the hash of the bundle: {path} has {manifest.sha256}. Got {wanted}. "
            f"Either the file or the hash is not the one that you were given."
        )


def _refuse_other_entries(path: Path, found: set[str], named: Any) -> None:
    missing, extra = sorted(set(named) - found), sorted(found - set(named))
    if missing:
        raise BundleError(f"{path} lacks {', '.join(missing)}. {_AGAIN}")
    if extra:
        raise BundleError(f"{path} holds {', '.join(extra)}, of which its manifest knows nothing. {_AGAIN}")


def _changed(path: Path, name: str) -> BundleError:
    return BundleError(f"{name} in {path} was changed after it was written: its hash differs. {_AGAIN}")


def _digest(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := content.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
