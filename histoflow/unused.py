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

YOUNG = 3600.0
"""Seconds: what was packed so recently may be wanted by a run that is about to say so."""


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
        if not folder.is_dir() or folder.resolve() in wanted:
            continue
        age = now - folder.stat().st_mtime
        if age >= youngest:
            found.append(Unused(folder, _what(folder), files.folder_size(folder), age))
    return found


def _referred_to() -> Iterator[Path]:
    """The stores that runs were trained on; a run that cannot be read stops all, for it may need one."""
    for place in (home.runs(), home.studies()):
        for record in sorted(place.rglob(RECORD)):
            packed = Run(record.parent).read().packed
            if packed is not None:
                yield Path(packed).resolve()
    for one in crossvalidation.listing():  # its next fold is cut from it
        if (packed := one.read().packed) is not None:
            yield Path(packed).resolve()


def _what(folder: Path) -> str:
    if not folder.name.startswith("."):
        return "packed data" if (folder / "manifest.json").is_file() else "packed data without a manifest"
    return "left by packing that was interrupted"


def remove(unused: Unused) -> bool:
    """Remove it unless a process is at work on it; what is left of a removal cut short is found again."""
    try:
        with FileLock(_lock_of(unused.folder)).acquire(timeout=0):
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
