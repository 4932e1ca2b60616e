"""A version of a model: a folder that stands by itself, and whose files are checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders
from histoflow.errors import DataError
from histoflow.models import _state
from histoflow.models._state import VERSIONS, Stage
from histoflow.runs import Run

SCHEMA = 1
RECORD = "record.json"
RECORD_HASH = "record.json.sha256"
"""In the format of sha256sum, which can check it, too."""
NEEDED = ("run.json", "experiment.yaml", "metrics.json", "predictions.npz", "fitted.json", "manifest.json")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A test figure as it was when the version was registered."""

    value: float | None
    interval: tuple[float, float] | None = None
    note: str = ""
    """Why there is no value or no interval."""

    @property
    def words(self) -> str:
        """'0.953 (0.941 to 0.964)', or a dash; told without the report's words, which draw in matplotlib."""
        if self.value is None:
            return "–"
        low_high = f" ({self.interval[0]:.3f} to {self.interval[1]:.3f})" if self.interval else ""
        return f"{self.value:.3f}{low_high}"


class KeptFile(_Frozen):
    sha256: str
    bytes: int


class VersionRecord(_Frozen):
    """The content of record.json."""

    schema_version: int = SCHEMA
    name: str
    number: int
    created: str
    run: str
    """The id of the run that it comes from."""
    model: str
    """The hash of its weights."""
    epoch: int
    classes: tuple[str, ...]
    data_fingerprint: str
    code_version: str
    """Of histoflow, when the run began."""
    plugins: tuple[dict[str, str], ...]
    environment: dict[str, Any]
    seed: int
    metrics: dict[str, Figure]
    """The overall figures on the test split, the first being the one that decides."""
    parent: int | None
    """The champion when it was registered."""
    warm_from: str | None
    """What training began from, where not from scratch."""
    note: str
    files: dict[str, KeptFile]
    """All others of the folder, by their paths in it; the hash of this record is in a file of its own."""


@dataclass(frozen=True)
class Version:
    """A version by its folder. What never changes is read once, its stage anew each time."""

    folder: Path

    @property
    def name(self) -> str:
        return self.line.name

    @property
    def line(self) -> Path:
        """The folder of the model that it is a version of."""
        return self.folder.parent.parent

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def reference(self) -> str:
        """By which it is found: ``colon@3``."""
        return f"{self.name}@{self.number}"

    @property
    def stage(self) -> Stage:
        return _state.read(self.line).stage_of(self.number)

    @cached_property
    def record(self) -> VersionRecord:
        _refuse_changed_record(self)
        found = folders.read_record(self.folder / RECORD, VersionRecord, SCHEMA)
        if (found.name, found.number) != (self.name, self.number):
            raise DataError(
                f"{self.folder / RECORD} is of {found.name}@{found.number}, so {self.reference} is not what "
                f"its folder's name says. Put the folder back to where it was."
            )
        return found

    @property
    def run(self) -> Run:
        """What was kept of its run, to be read, predicted with and compared as one, but never written to."""
        return _KeptRun(self.folder)


class _KeptRun(Run):
    @property
    def id(self) -> str:
        """Messages name the version."""
        return Version(self.folder).reference

    @property
    def predictions(self) -> Path:
        """Beside the versions, which never change."""
        return Version(self.folder).line / "predictions" / self.folder.name

    @contextmanager
    def lock(self) -> Iterator[None]:
        """What never changes may be read by any number of processes at once."""
        yield


def versions_in(line: Path) -> list[Version]:
    """All that were registered, oldest first."""
    folders_in = (path.parent for path in (line / VERSIONS).glob(f"*/{RECORD}"))
    found = [Version(folder) for folder in folders_in if folder.name.isdecimal()]
    return sorted(found, key=lambda version: version.number)


def verify(version: Version) -> None:
    """Whether every file is the one that was registered; a DataError names the first that is not."""
    expect_sizes(version)
    for name, kept in version.record.files.items():
        if files.digest_of_file(version.folder / name) != kept.sha256:
            raise _changed(version, name, "was changed after it was registered: its hash differs")


def hash_of_record(folder: Path) -> str:
    """What stands in the file beside it."""
    return f"{files.digest_of_file(folder / RECORD)}  {RECORD}\n"


def _refuse_changed_record(version: Version) -> None:
    kept = version.folder / RECORD_HASH
    if not kept.is_file():
        raise _changed(version, RECORD_HASH, "is missing")
    if kept.read_text(encoding="utf-8") != hash_of_record(version.folder):
        raise _changed(version, RECORD, "was changed after it was registered: its hash differs")


def expect_sizes(version: Version) -> None:
    """As ``verify``, without reading what is in the files."""
    kept_hashes = {kept.sha256 for kept in version.record.files.values()}
    lacking = [name for name in NEEDED if name not in version.record.files]
    if lacking or version.record.model not in kept_hashes:
        named = ", ".join(lacking) or "its weights"
        raise _changed(version, RECORD, f"does not name {named}, which every version has")
    for name, kept in version.record.files.items():
        path = version.folder / name
        if not path.is_file():
            raise _changed(version, name, "is missing")
        if path.stat().st_size != kept.bytes:
            raise _changed(version, name, "was changed after it was registered: its size differs")


def _changed(version: Version, name: str, problem: str) -> DataError:
    return DataError(
        f"{version.folder / name} of {version.reference} {problem}. Put a copy of it back, or use another "
        f"version; 'histoflow models {version.name}' lists them."
    )
