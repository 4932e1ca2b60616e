"""Writing that leaves either the whole thing or nothing, also when the power goes."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from histoflow.errors import HistoflowError, StorageError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Tell a full disk as what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise StorageError(
            f"No room to write {path}: {error.strerror}; {in_units(free_bytes(path))} are free there. "
            f"Nothing half-written was left. "
            f"Make room, or set HISTOFLOW_HOME to a larger disk, and run again."
        ) from error


def free_bytes(path: Path) -> int:
    """Room left on the disk that holds the path, or will."""
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without error."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        with storage_errors(path):
            yield temporary
            sync(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its place, whole, when the block ends without error."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        with storage_errors(path):
            yield temporary
            for inner in temporary.rglob("*"):
                sync(inner)
            sync(temporary)
            temporary.chmod(0o755)
            temporary.replace(path)
            sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)


def remove_unfinished(path: Path) -> None:
    """Clear away what a killed process left while it wrote ``path``."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def sync(path: Path) -> None:
    """Have the disk keep what was written; folders too, whose entries are data of their own."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin_sync(path: Path) -> None:
    """Have the disk begin to keep what was written, without waiting: a later ``sync`` is short then."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # Linux answers "not needed in memory" by writing it; what is not on disk yet stays in memory.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_text(path: Path, text: str) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, data: Any) -> Path:
    # ASCII, for the name of a file need not be text, and such a name must survive the trip.
    return write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def yaml_of(data: Any) -> str:
    """Plain data as YAML, its keys in their order."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.width = 100
    stream = io.StringIO()
    writer.dump(data, stream)
    return stream.getvalue()


def refuse_newer(path: Path, schema: Any, known: int, error: type[HistoflowError]) -> None:
    """Do not guess at the meaning of what a later histoflow wrote."""
    if isinstance(schema, int) and schema > known:
        raise error(
            f"{path} was made by a newer histoflow (schema {schema}; this one reads up to {known}). "
            f"Upgrade histoflow to use it."
        )


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_data(data: Any) -> str:
    """The SHA-256 of plain data in canonical JSON."""
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def in_units(count: int) -> str:
    """A number of bytes as a person reads it."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count} bytes"


def folder_size(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
