"""Packed data that no run refers to any more, found and removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from histoflow import crossvalidation, files, home, progress
from histoflow.errors import StorageError
from histoflow.runs import RECORD, Run
from histoflow.tuning import study as studies

YOUNG = 3600.0
"""Seconds: what was packed so recently may be wanted by a run that is about to say so."""
_UNDER_WAY = 120.0
"""Seconds: a hidden folder that was written to so recently is perhaps being written still."""


@dataclass(frozen=True)
class Unused:
    """A folder that nothing needs."""

    folder: Path
    what: str
    bytes: int
    age: float
    """Seconds since it was last written."""


def find_unused(youngest: float = YOUNG) -> list[Unused]:
    """Packed stores that no run, trial or fold refers to, and what interrupted packing left behind."""
    wanted, now = set(_referred_to()), time.time()
    found = []
    for folder in sorted(home.packed().iterdir()):
        if not folder.is_dir() or folder.name in wanted:
            continue
        age = now - _last_written(folder)
        if age >= max(youngest, _UNDER_WAY if folder.name.startswith(".") else 0.0):
            found.append(Unused(folder, _what(folder), files.folder_size(folder), age))
    return found


def _last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _referred_to() -> Iterator[str]:
    """The names of stores that something needs; a record that cannot be read stops all, for it may need one.

    By name, which tells the content: another machine may see the same home under another path.
    """
    for place in (home.runs(), home.studies()):
        for record in sorted(place.rglob(RECORD)):
            yield from _name(Run(record.parent).read().packed)
    for study in studies.listing():
        yield from _name(study.read().packed)
    for one in crossvalidation.listing():
        yield from _of_cross_validation(one)


def _name(packed: str | None) -> Iterator[str]:
    if packed is not None:
        yield Path(packed).name


def _of_cross_validation(one: crossvalidation.CrossValidation) -> Iterator[str]:
    """What its folds are cut from, and what was cut for folds that have not begun."""
    from histoflow.data.folds import folders_of_folds

    record = one.read()
    for name in _name(record.packed):
        yield name
        parent = home.packed() / name
        if (parent / "manifest.json").is_file():
            yield from (folder.name for folder in folders_of_folds(parent, record.folds))


def _what(folder: Path) -> str:
    if not folder.name.startswith("."):
        return "packed data" if (folder / "manifest.json").is_file() else "packed data without a manifest"
    return "left by packing that was interrupted"


def remove(unused: Unused) -> bool:
    """Remove it unless a process is at work on it; what is left of a removal cut short is found again."""
    try:
        with FileLock(_lock_of(unused.folder)).acquire(timeout=0):
            if unused.folder.name in set(_referred_to()):
                progress.say(f"{unused.folder} is needed by a run that has just begun, and stays.")
                return False
            doomed = unused.folder.with_name(f".{unused.folder.name.lstrip('.')}.removed")
            unused.folder.rename(doomed)
            shutil.rmtree(doomed)
    except Timeout:
        progress.say(f"{unused.folder} is being packed by another process, and stays.")
        return False
    except OSError as error:
        raise StorageError(
            f"{unused.folder} cannot be removed: {error.strerror}. Mend that, and run again."
        ) from error
    return True


def _lock_of(folder: Path) -> Path:
    """The lock of the store that this folder is, or was to become."""
    name = folder.name
    store = name.lstrip(".").partition(".")[0] if name.startswith(".") else name
    return folder.with_name(f"{store}.lock")
