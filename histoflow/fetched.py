"""The files of a data set as they were when they were hashed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from histoflow import files, progress
from histoflow.errors import DataError


@dataclass(frozen=True)
class Fetched:
    """Files, what they hold, and how to see that they have not been touched since."""

    paths: Sequence[Path]
    hashes: dict[str, str]
    """SHA-256 by the name relative to what all paths share, so that moving a folder changes nothing."""
    stamps: Sequence[str]
    """Size and time of the last change of each path, from before it was hashed."""

    @property
    def digest(self) -> str:
        """Of all names and contents."""
        return files.digest_of_data(sorted(self.hashes.items()))

    def write(self, folder: Path) -> Path:
        """The listing of these files in the folder; the same content elsewhere has another."""
        paths = [str(path) for path in self.paths]
        place = files.digest_of_data(paths)
        listing = folder / f"files-{self.digest[:16]}-{place[:8]}.json"
        return files.write_json(listing, {"paths": paths, "sha256": self.hashes, "stamps": list(self.stamps)})

    def refuse_changed(self) -> None:
        """Raise if a file is no longer as it was hashed. Cheap: looks at no contents."""
        changed = [
            path for path, stamp in zip(self.paths, self.stamps, strict=True) if _stamp_if_any(path) != stamp
        ]
        if not changed:
            return
        others = f", and {len(changed) - 1:,} more," if len(changed) > 1 else ""
        raise DataError(
            f"{changed[0]}{others} changed while the data set was packed, after the files had been hashed. "
            f"Nothing was packed. Run again when nothing writes these files any more."
        )


def fetched(paths: Sequence[Path]) -> Fetched:
    """Hash each file."""
    if not paths:
        return Fetched((), {}, ())
    common = os.path.commonpath([path.parent for path in paths])
    hashes, stamps = {}, []
    with progress.track("Hashing", total=len(paths), unit="files") as advance:
        for path in paths:
            try:
                stamps.append(_stamp(path))
                hashes[path.relative_to(common).as_posix()] = files.digest_of_file(path)
            except OSError as error:
                raise DataError(
                    f"Cannot read {path}: {error.strerror}. Make it readable, or take it away."
                ) from error
            advance()
    return Fetched(paths, hashes, stamps)


def read(listing: Path) -> Fetched:
    data = files.read_json(listing)
    return Fetched([Path(path) for path in data["paths"]], data["sha256"], data["stamps"])


def _stamp_if_any(path: Path) -> str:
    """Empty where the file is gone, or out of reach."""
    try:
        return _stamp(path)
    except OSError:
        return ""


def _stamp(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
