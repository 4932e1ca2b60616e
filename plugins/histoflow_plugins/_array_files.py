"""Files of arrays: npz, npy and HDF5 behind one face, which may be pickled for other processes."""

from __future__ import annotations

import math
import os
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from histoflow import DataError, UnreadableImage
from histoflow_plugins._image_files import few, shown
from histoflow_plugins._npz import NpzArrays

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

ONLY = ""
"""The name of the array in a file that holds one without a name."""
_NOT_OPENED = (
    "It holds Python objects, which are not loaded, for loading them may run programs. "
    "Store numbers or text: np.stack(images), labels.astype(str)"
)


class Described(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


class ArrayFile(Protocol):
    file: Path

    @property
    def headers(self) -> Mapping[str, Described]:
        """What each of its arrays is."""
        ...

    def item(self, name: str, index: int) -> NDArray[Any]:
        """One row of an array. Raises UnreadableImage where it is damaged."""
        ...

    def whole(self, name: str) -> NDArray[Any]: ...

    def check(self, names: Iterable[str]) -> None:
        """Raise DataError where the content of these is damaged, as far as the file tells."""
        ...


@dataclass(frozen=True)
class Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def open_arrays(file: Path) -> ArrayFile:
    """Raises DataError for a file that is missing or no such file."""
    try:
        with file.open("rb") as content:
            begin = content.read(8)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Correct the path") from error
    kinds: Mapping[bytes, Callable[[Path], ArrayFile]] = {
        b"PK": NpzFile,
        b"\x93NUMPY": NpyFile,
        b"\x89HDF\r\n\x1a\n": Hdf5File,
    }
    kind = next((kind for magic, kind in kinds.items() if begin.startswith(magic)), None)
    if kind is None and not _is_hdf5(file):
        raise DataError(f"{file} is no npz, npy or HDF5 file. Save it as one of these")
    return (kind or Hdf5File)(file)


def described(arrays: ArrayFile) -> str:
    """Its arrays in words: ``'x' (100×64×64×3 uint8), 'y' (100 int64)``."""
    return few(f"'{shown(name)}' ({form(header)})" for name, header in arrays.headers.items()) or "no array"


def form(header: Described) -> str:
    text = header.dtype.kind in "US"
    return f"{'×'.join(map(str, header.shape)) or 'one'} {'texts' if text else header.dtype}"


def refuse_objects(arrays: ArrayFile, name: str) -> None:
    if arrays.headers[name].dtype.hasobject:
        raise DataError(f"array '{name}' of {arrays.file} cannot be used. {_NOT_OPENED}")


class NpzFile:
    def __init__(self, file: Path) -> None:
        self.file = file
        self._arrays = NpzArrays(file)

    @property
    def headers(self) -> Mapping[str, Described]:
        return self._arrays.headers

    def item(self, name: str, index: int) -> NDArray[Any]:
        import numpy as np

        return np.array(self._arrays[name][index])

    def whole(self, name: str) -> NDArray[Any]:
        return self._arrays.whole(name)

    def check(self, names: Iterable[str]) -> None:
        self._arrays.check_stored(*names)


class NpyFile:
    def __init__(self, file: Path) -> None:
        import numpy as np

        self.file = file
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError) as error:
            why = _NOT_OPENED if "Python objects" in str(error) else f"It is damaged: {error}"
            raise DataError(f"{file} cannot be used. {why}") from error
        self.headers: Mapping[str, Described] = {ONLY: Header(array.shape, array.dtype)}
        self._map: NDArray[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def item(self, name: str, index: int) -> NDArray[Any]:  # noqa: ARG002
        import numpy as np

        if self._map is None:
            self._map = np.load(self.file, mmap_mode="r", allow_pickle=False)
        return np.array(self._map[index])

    def whole(self, name: str) -> NDArray[Any]:  # noqa: ARG002
        import numpy as np

        array: NDArray[Any] = np.load(self.file, allow_pickle=False)
        return array

    def check(self, names: Iterable[str]) -> None:
        """An npy file has no checksum."""


class Hdf5File:
    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle: h5py.File | None = None
        self._process = 0
        self._chunk = 0
        with _damage_told(file):
            self.headers: Mapping[str, Described] = self._listing()

    def _listing(self) -> dict[str, Described]:
        import h5py

        found: dict[str, Described] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = _header(item)
                self._chunk = max(self._chunk, math.prod(item.chunks or (0,)) * item.dtype.itemsize)

        with h5py.File(self.file, "r", locking=False) as content:
            content.visititems(note)  # which follows no links into other files
        return found

    def item(self, name: str, index: int) -> NDArray[Any]:
        import numpy as np

        try:
            return np.asarray(self._opened()[name][index])
        except (OSError, RuntimeError) as error:
            if "errno" in str(error):  # the disk's fault and not the image's
                raise DataError(
                    f"Cannot read {self.file}: {error}. Bring it back, or fetch again."
                ) from error
            raise UnreadableImage(f"it cannot be unpacked: {error}") from error

    def whole(self, name: str) -> NDArray[Any]:
        import numpy as np

        with _damage_told(self.file):
            dataset = self._opened()[name]
            text = self.headers[name].dtype.kind == "U"
            array = dataset.asstr()[()] if text else dataset[()]
            return np.asarray(array, np.str_ if text else None)

    def check(self, names: Iterable[str]) -> None:
        """What an HDF5 file knows of damage it tells when a chunk is read."""

    def _opened(self) -> h5py.File:
        """A handle of this process: one that was forked would share the place in the file."""
        import h5py

        if self._handle is None or self._process != os.getpid():
            # Images are read one by one; a chunk of many is unpacked only once if it stays in memory.
            self._handle = h5py.File(self.file, "r", locking=False, rdcc_nbytes=max(2**20, 2 * self._chunk))
            self._process = os.getpid()
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def _header(dataset: h5py.Dataset) -> Header:
    import h5py
    import numpy as np

    text = h5py.check_string_dtype(dataset.dtype) is not None
    return Header(dataset.shape or (), np.dtype(np.str_) if text else dataset.dtype)


@contextmanager
def _damage_told(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{file} is damaged or no HDF5 file: {error}") from error


def _is_hdf5(file: Path) -> bool:
    """Also with something of its own before, as MATLAB writes it."""
    import h5py

    return bool(h5py.is_hdf5(file))
