"""Brings one file of a data set from the network: whole, checked, and only once.

For plugins, whose ``fetch`` says ``return (download(mirrors, folder / "patches.h5", md5="…"),)``, or
``download_gzipped`` where the file travels as ``patches.h5.gz``.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow import progress
from histoflow.errors import DataError, StorageError
from histoflow.files import atomic_file, remove_unfinished, storage_errors, sync

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait for a server, and how often to come back; all in seconds."""

    silence: float = 30.0
    """After so long without a byte a connection counts as broken."""
    pauses: tuple[float, ...] = (1.0, 5.0, 20.0)
    """Before each further attempt at a mirror; counted anew whenever an attempt brought more of the file."""


DEFAULT_PATIENCE = Patience()

_WITHOUT_FILE = (202, 204, 205)
"""Answers of success that bring no file: it is not ready, or there is no content."""


class _MirrorFailedError(Exception):
    """This mirror cannot give the file, and the message says why."""


def download(
    urls: Sequence[str],
    target: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> Path:
    """The file at ``target``, brought from the first of ``urls`` that gives it, unless it is there already.

    An interrupted download goes on where it stopped, also in a later process, where a hash is given
    to tell whether the two pieces fit. Of several processes that want the file, one downloads.

    Without a hash nothing tells whether the file is the one wanted, nor, from a server that does not say how
    long it is, whether it is whole; only an empty one is refused.
    """
    expected = {name: value.lower() for name, value in (("md5", md5), ("sha256", sha256)) if value}
    if _is_there(target, expected):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if not _is_there(target, expected):
            _from_mirrors(urls, target, expected, patience)
    return target


def download_gzipped(
    urls: Sequence[str],
    target: Path,
    *,
    md5: str,
    unpacked_md5: str,
    patience: Patience = DEFAULT_PATIENCE,
) -> Path:
    """The file at ``target``, out of the gzip file that one of ``urls`` gives; only the unpacked one is kept.

    ``md5`` is that of the gzip file.
    """
    expected = {"md5": unpacked_md5.lower()}
    if _is_there(target, expected):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if not _is_there(target, expected):
            archive = download(urls, target.with_name(f"{target.name}.gz"), md5=md5, patience=patience)
            _gunzip(archive, target, expected)
            archive.unlink()
    return target


def unpack(archive: Path, target: Path) -> Path:
    """What the gzip file holds, at ``target``, unless it is there already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target):
        if not target.is_file():
            _gunzip(archive, target, {})
    return target


def _gunzip(archive: Path, target: Path, expected: Mapping[str, str]) -> None:
    remove_unfinished(target)
    with atomic_file(target) as temporary:
        try:
            _pour(archive, temporary)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"{archive} is damaged or no gzip file: {error}. Delete it and fetch it again."
            ) from error
        fault = _fault(temporary, expected)
        if fault:
            raise DataError(
                f"{archive} does not hold the file wanted: {fault}. Delete it and fetch it again."
            )


def _pour(archive: Path, target: Path) -> None:
    """Progress is told in bytes of the archive, for what they come to is not known before."""
    if not archive.stat().st_size:
        raise EOFError("it is empty")  # in which gzip itself sees nothing wrong
    with (
        archive.open("rb") as raw,
        gzip.open(raw) as packed,
        target.open("wb") as unpacked,
        progress.track(f"Unpacking {archive.name}", archive.stat().st_size, "bytes") as advance,
    ):
        done = 0
        while chunk := packed.read(1 << 20):
            unpacked.write(chunk)
            advance(raw.tell() - done)
            done = raw.tell()


def _is_there(target: Path, expected: Mapping[str, str]) -> bool:
    if not target.is_file():
        return False
    fault = _fault(target, expected)
    if fault:
        progress.say(f"{target} is not the file wanted: {fault}. It is downloaded anew.")
    return not fault


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(f"{target}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress.say(f"Another process brings {target.name}; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_mirrors(urls: Sequence[str], target: Path, expected: Mapping[str, str], patience: Patience) -> None:
    part = target.with_name(f"{target.name}.part")
    failures = []
    for url in urls:
        try:
            _from_mirror(url, part, expected, patience)
        except _MirrorFailedError as failure:
            failures.append(f"  {url}: {failure}")
        else:
            part.replace(target)
            sync(target.parent)
            return
    raise DataError(
        "\n".join([f"Cannot download {target.name}:", *(failures or ["  no address is known"])])
        + f"\nCheck the network and run again, or bring the file yourself: place it at {target}, "
        f"or name a local copy by the data set's 'path' parameter."
    )


def _from_mirror(url: str, part: Path, expected: Mapping[str, str], patience: Patience) -> None:
    continued = bool(expected) and _size(part) > 0
    if not continued:
        part.unlink(missing_ok=True)  # with no hash, nothing would tell a piece of another version
    _bring(url, part, patience)
    fault = _fault(part, expected) if expected else _emptiness(part)
    if fault:
        part.unlink()
        if not continued:
            raise _MirrorFailedError(fault)
        _from_mirror(url, part, expected, patience)  # the old piece may be to blame: once more, from nothing


def _bring(url: str, part: Path, patience: Patience) -> None:
    """Attempt after attempt, until the part is whole or the patience at an end."""
    most, pauses = _size(part), iter(patience.pauses)
    while interruption := _attempt(url, part, patience):
        if _size(part) > most:
            most, pauses = _size(part), iter(patience.pauses)
        pause = next(pauses, None)
        if pause is None:
            raise _MirrorFailedError(interruption)
        progress.say(f"{url}: {interruption}. Trying again in {pause:g} s.")
        time.sleep(pause)


def _attempt(url: str, part: Path, patience: Patience) -> str:
    """Why it was cut short, where another attempt may do better; empty when the part is whole."""
    import httpx

    try:
        _continue(url, part, patience)
    except httpx.HTTPStatusError as error:
        answer = error.response
        reason = f"the server answered {answer.status_code} {answer.reason_phrase}".rstrip()
        if answer.is_server_error or answer.status_code in (408, 425, 429):
            return reason
        raise _MirrorFailedError(reason) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
        raise _MirrorFailedError(f"{type(error).__name__}: {error}") from error
    except httpx.TransportError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _continue(url: str, part: Path, patience: Patience) -> None:
    import httpx

    offset = _size(part)
    # Bytes as they are stored: a compressed answer would have offsets of its own.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with httpx.stream("GET", url, headers=headers, timeout=patience.silence, follow_redirects=True) as answer:
        if offset and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing comes after what is here already; its hash tells whether that is all
        answer.raise_for_status()
        if answer.status_code in _WITHOUT_FILE:
            raise _MirrorFailedError(f"the server answered {answer.status_code} {answer.reason_phrase}")
        _save(answer, part, offset if answer.status_code == httpx.codes.PARTIAL_CONTENT else 0)


def _save(answer: httpx.Response, part: Path, offset: int) -> None:
    total = offset + int(answer.headers.get("Content-Length", 0)) or None
    title = f"Downloading {part.stem}"
    try:
        with (
            storage_errors(part),
            part.open("ab" if offset else "wb") as file,
            progress.track(title, total, "bytes") as advance,
        ):
            advance(offset)
            for chunk in answer.iter_raw():
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    except StorageError:
        part.unlink(missing_ok=True)  # whoever shares the full disk needs the room
        raise


def _fault(path: Path, expected: Mapping[str, str]) -> str:
    """What is wrong with the content, or nothing."""
    for name, value in expected.items():
        with path.open("rb") as file:
            got = hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()  # noqa: B023
        if got != value:
            return f"its {name.upper()} must be {value}. Got {got}"
    return ""


def _emptiness(path: Path) -> str:
    return "" if _size(path) else "it gave an empty file"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
