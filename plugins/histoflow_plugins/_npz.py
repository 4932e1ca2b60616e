"""Arrays of npz files as memory maps that several processes share.

What was stored as it is (``numpy.savez``) is mapped where it lies. What was compressed is unpacked once,
into histoflow's home, by whichever process asks first; it is removed when whoever opened the file is done.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import struct
import tokenize
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from histoflow import DataError, files, home, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CHUNK = 2**20
_SIGNS_OF_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,  # encrypted, or packed in a way that zipfile does not know
    SyntaxError,
    ValueError,
)
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Of a member of a zip file; the last two numbers are the lengths of what follows: its name, and more."""


@contextmanager
def damage_told(file: Path) -> Iterator[None]:
    """What a damaged file makes zipfile and numpy raise, told as a DataError that names the file."""
    try:
        yield
    except (*_SIGNS_OF_DAMAGE, OSError) as error:
        # Places that the file tells wrongly; any other number is about the disk or who may read it.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise DataError(
            f"{file} is damaged or no npz file: {error}. Delete it and fetch it again."
        ) from error


@dataclass(frozen=True)
class Header:
    """What an array is, without its content."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    stored_at: int | None
    """Where in the npz file its content lies as it is; None where it is compressed."""


class NpzArrays:
    """The arrays of one npz file; what is asked for is brought then. May be pickled, for other processes.

    Unpacked arrays are removed with the object that was made in the first place, not with copies of it that
    were unpickled. Where its process was killed, the next that opens the file uses and removes them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file.absolute()
        with damage_told(file), zipfile.ZipFile(file) as archive:
            self.headers: Mapping[str, Header] = dict(_headers(archive))
        self._folder = _place_for(self.file)
        self._maps: dict[str, NDArray[Any]] = {}
        weakref.finalize(self, _remove, self._folder, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The array as a read-only map."""
        if name not in self._maps:
            with damage_told(self.file):
                self._maps[name] = self._in_place(name) if self._is_stored(name) else self._unpacked(name)
        return self._maps[name]

    def whole(self, name: str) -> NDArray[Any]:
        """The array in memory, for one that is small."""
        import numpy as np

        with damage_told(self.file), np.load(self.file, allow_pickle=False) as arrays:
            array: NDArray[Any] = arrays[f"{name}.npy"]
            return array

    def check_stored(self, *names: str) -> None:
        """Compare what is mapped where it lies with its checksum; unpacking does so by itself.

        To be called once by whoever opens the file, for each process that maps would have to do it anew.
        """
        stored = [f"{name}.npy" for name in names if self._is_stored(name)]
        if not stored:
            return
        with damage_told(self.file), zipfile.ZipFile(self.file) as archive:
            total = sum(archive.getinfo(member).file_size for member in stored)
            with progress.track(f"Checking {self.file.name}", total, "bytes") as advance:
                for member in stored:
                    _read_through(archive, member, advance)

    def _is_stored(self, name: str) -> bool:
        return self.headers[name].stored_at is not None

    def _in_place(self, name: str) -> NDArray[Any]:
        import numpy as np

        header = self.headers[name]
        assert header.stored_at is not None
        return np.memmap(
            self.file,
            header.dtype,
            "r",
            header.stored_at,
            header.shape,
            "F" if header.fortran_order else "C",
        )

    def _unpacked(self, name: str) -> NDArray[Any]:
        """Mapped while the lock is held: whoever removes the file waits, and a map outlives it."""
        import numpy as np
        from filelock import FileLock

        # Not the name itself: it may lead into other folders, and out of this one.
        target = self._folder / f"{files.digest_of_data(name)[:32]}.npy"
        with FileLock(self._folder / "lock"):
            if not target.is_file():
                files.remove_unfinished(target)
                self._unpack(name, target)
            array: NDArray[Any] = np.load(target, mmap_mode="r", allow_pickle=False)
            return array

    def _unpack(self, name: str, target: Path) -> None:
        with (
            zipfile.ZipFile(self.file) as archive,
            archive.open(f"{name}.npy") as packed,
            files.atomic_file(target) as temporary,
            temporary.open("wb") as unpacked,
            progress.track(
                f"Unpacking {name} of {self.file.name}",
                archive.getinfo(f"{name}.npy").file_size,
                "bytes",
            ) as advance,
        ):
            while chunk := packed.read(_CHUNK):
                unpacked.write(chunk)
                advance(len(chunk))


def _headers(archive: zipfile.ZipFile) -> Iterator[tuple[str, Header]]:
    for member in archive.infolist():
        if member.filename.endswith(".npy"):
            with archive.open(member) as packed:
                shape, dtype, fortran_order = _array_header(packed)
                begin = packed.tell()
            stored = member.compress_type == zipfile.ZIP_STORED and not dtype.hasobject
            at = _content_of(archive, member) + begin if stored else None
            yield member.filename.removesuffix(".npy"), Header(shape, dtype, fortran_order, at)


def _array_header(packed: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    from numpy.lib import format as npy

    read = npy.read_array_header_1_0 if npy.read_magic(packed) == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(packed)
    return shape, dtype, fortran_order


def _content_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Where a member's content begins: its header there may be longer than the one in the directory."""
    assert archive.filename is not None
    with Path(archive.filename).open("rb") as file:
        file.seek(member.header_offset)
        *_, name, more = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + int(name) + int(more)


def _read_through(archive: zipfile.ZipFile, member: str, advance: progress.Advance) -> None:
    """To the end, where zipfile compares the checksum."""
    with archive.open(member) as content:
        while chunk := content.read(_CHUNK):
            advance(len(chunk))


def _place_for(file: Path) -> Path:
    """One for each content: a file that was changed has another time."""
    facts = file.stat()
    identity = files.digest_of_data([str(file), facts.st_size, facts.st_mtime_ns])
    return home.raw() / "unpacked" / f"{file.stem}-{identity[:16]}"


def _remove(folder: Path, owner: int) -> None:
    """Not by a process that was forked, and so holds a copy of whoever opened the file."""
    from filelock import FileLock

    if os.getpid() == owner and folder.is_dir():
        with FileLock(folder / "lock"):
            shutil.rmtree(folder)
