"""Data set ``medmnist``: the 2-D sets of MedMNIST v2, PathMNIST first among them.

The table of sets, addresses and checksums is that of the ``medmnist`` package. Its source is read
rather than imported: the import brings torch along and makes a folder in the user's home.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from histoflow import (
    SPLITS,
    DataError,
    Dataset,
    Facts,
    Params,
    PluginError,
    Row,
    Samples,
    SplitName,
    Task,
    hookimpl,
    progress,
)
from histoflow.download import download
from histoflow.files import storage_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CITATION = (
    "Yang, J. et al. MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image "
    "classification. Scientific Data 10, 41 (2023). https://doi.org/10.1038/s41597-022-01721-8"
)
TASKS: Mapping[str, Task] = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "ordinal-regression": "multiclass",
}


# ── What the medmnist package knows ─────────────────────────────────────────────────────────────


@cache
def table() -> dict[str, dict[str, Any]]:
    """The INFO table of the installed ``medmnist``."""
    found = importlib.util.find_spec("medmnist")
    if found is None or found.origin is None:
        raise PluginError("Data set 'medmnist' needs the package medmnist. Run: pip install medmnist")
    source = Path(found.origin).with_name("info.py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INFO":
            return dict(ast.literal_eval(node.value))
    raise PluginError(f"{source} has no table INFO. Install another version: pip install 'medmnist<4'")


def subsets() -> list[str]:
    """The sets that can be used: 2-D, and with one label an image."""
    return [name for name, entry in table().items() if not name.endswith("3d") and entry["task"] in TASKS]


def _offer_subsets(schema: dict[str, Any]) -> None:
    schema["enum"] = subsets()


# ── Parameters and facts ────────────────────────────────────────────────────────────────────────


class MedMNISTParams(Params):
    subset: str = Field("pathmnist", json_schema_extra=_offer_subsets)
    """Which of the 2-D sets with one label an image; pathmnist is colorectal tissue."""
    size: Literal[28, 64, 128, 224] = 28
    """Height and width in pixels. PathMNIST takes 0.2 GB to download at 28, 12.6 GB at 224."""
    path: Path | None = None
    """A local npz file, or the folder that holds it under its official name, in place of the network."""
    mirrors: tuple[Annotated[str, Field(pattern=r"^https?://")], ...] = Field((), max_length=20)
    """Addresses of folders on the web to try before the official one."""

    @field_validator("subset")
    @classmethod
    def _known(cls, subset: str) -> str:
        if subset in subsets():
            return subset
        legal = f"must be one of {', '.join(subsets())}. Got '{subset}'"
        if subset.endswith("3d") and subset in table():
            raise ValueError(f"{legal}, whose images are volumes: 3-D sets are not supported.")
        if subset in table():
            raise ValueError(f"{legal}, whose images have several labels each: that is not supported yet.")
        near = difflib.get_close_matches(subset.lower(), subsets(), n=1)
        raise ValueError(f"{legal}.{f' Did you mean {near[0]!r}?' if near else ''}")


def facts(params: MedMNISTParams) -> Facts:
    entry = table()[params.subset]
    return Facts(
        task=TASKS[entry["task"]],
        classes=_classes(params),
        channels=entry["n_channels"],
        size=(params.size, params.size),
        # A file of the user's own may be a part of the set.
        images=None if params.path else sum(entry["n_samples"].values()),
        official_split=True,
        licence=entry["license"],
        citation=CITATION,
    )


def _classes(params: MedMNISTParams) -> tuple[str, ...]:
    labels = table()[params.subset]["label"]
    return tuple(labels[str(index)] for index in range(len(labels)))


# ── Getting the file ────────────────────────────────────────────────────────────────────────────


def fetch(params: MedMNISTParams, folder: Path) -> Sequence[Path]:
    entry, suffix = table()[params.subset], _suffix(params)
    if params.path is not None:
        return (_local_file(params.path.expanduser(), _file_name(params), entry[f"MD5{suffix}"]),)
    urls = [f"{base.rstrip('/')}/{_file_name(params)}" for base in params.mirrors]
    return (download([*urls, entry[f"url{suffix}"]], folder / _file_name(params), md5=entry[f"MD5{suffix}"]),)


def _suffix(params: MedMNISTParams) -> str:
    return "" if params.size == 28 else f"_{params.size}"


def _file_name(params: MedMNISTParams) -> str:
    return f"{params.subset}{_suffix(params)}.npz"


def _local_file(path: Path, name: str, md5: str) -> Path:
    file = (path / name if path.is_dir() else path).absolute()
    if not file.is_file():
        beside = ", ".join(sorted(near.name for near in file.parent.glob("*.npz"))) or "none"
        raise DataError(
            f"The 'path' parameter of data set 'medmnist' must name {name} or the folder that holds it. "
            f"Got {path}, and there is no file {file}; npz files there: {beside}. "
            f"Correct the path, or leave it out to download."
        )
    with file.open("rb") as content:
        got = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        progress.say(f"{file} is not the official {name}: its MD5 is {got}, not {md5}. It is used as it is.")
    return file


# ── Reading it ──────────────────────────────────────────────────────────────────────────────────


def open_(params: MedMNISTParams, files: Sequence[Path]) -> Samples:
    file = files[0]
    with _damage_told(file):
        problems, labels = _inspect(file, params)
    if problems:
        raise DataError(
            f"{file} is not a MedMNIST file of '{params.subset}' at {params.size} pixels:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nCorrect 'subset' or 'size', or bring the official file."
        )
    return Samples(
        classes=_classes(params),
        rows=[
            Row(label=int(label), source=f"{split}/{index:06}", split=split)
            for split in SPLITS
            for index, label in enumerate(labels[split])
        ],
        read=_reader(file, [(split, index) for split in SPLITS for index in range(len(labels[split]))]),
    )


@contextmanager
def _damage_told(file: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise DataError(
            f"{file} is damaged or no npz file: {error}. Delete it and fetch it again."
        ) from error


def _inspect(file: Path, params: MedMNISTParams) -> tuple[list[str], dict[SplitName, NDArray[np.int64]]]:
    """What is wrong with the arrays, found without unpacking images; and the labels."""
    import numpy as np

    with zipfile.ZipFile(file) as archive:
        kinds = [(split, kind) for split in SPLITS for kind in ("images", "labels")]
        missing = [
            f"{split}_{kind}" for split, kind in kinds if f"{split}_{kind}.npy" not in archive.namelist()
        ]
        if missing:
            return [f"it must have arrays {', '.join(missing)}"], {}
        shapes = {split: _header(archive, split)[:2] for split in SPLITS}
    with np.load(file, allow_pickle=False) as arrays:
        labels = {split: arrays[f"{split}_labels"] for split in SPLITS}
    problems = [
        problem
        for split in SPLITS
        for problem in (
            *_image_problems(split, *shapes[split], params),
            *_label_problems(split, labels[split], shapes[split][0][0] if shapes[split][0] else 0, params),
        )
    ]
    return problems, {split: array.reshape(-1) for split, array in labels.items()}


def _image_problems(
    split: SplitName, shape: tuple[int, ...], dtype: np.dtype[Any], params: MedMNISTParams
) -> Iterator[str]:
    side, channels = params.size, table()[params.subset]["n_channels"]
    legal = [(side, side, channels)] + ([(side, side)] if channels == 1 else [])
    if shape[1:] not in legal or dtype != "uint8":
        wanted = "×".join(str(length) for length in legal[0])
        yield f"{split}_images must be N×{wanted} uint8. Got {'×'.join(map(str, shape))} {dtype}"


def _label_problems(
    split: SplitName, labels: NDArray[Any], images: int, params: MedMNISTParams
) -> Iterator[str]:
    name, classes = f"{split}_labels", len(_classes(params))
    if labels.shape not in ((images, 1), (images,)) or labels.dtype.kind not in "iu":
        yield f"{name} must be {images}×1 integers. Got {'×'.join(map(str, labels.shape))} {labels.dtype}"
    elif images and not (labels.min() >= 0 and labels.max() < classes):
        yield f"{name} must lie in 0..{classes - 1}. Got {labels.min()}..{labels.max()}"


def _header(archive: zipfile.ZipFile, split: SplitName) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    with archive.open(f"{split}_images.npy") as packed:
        return _read_header(packed)


def _read_header(packed: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    from numpy.lib import format as npy

    read = npy.read_array_header_1_0 if npy.read_magic(packed) == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(packed)
    return shape, dtype, fortran_order


def _reader(file: Path, places: Sequence[tuple[SplitName, int]]) -> Callable[[int], NDArray[np.uint8]]:
    unpacked: dict[SplitName, NDArray[np.uint8]] = {}
    lock = threading.Lock()

    def read(row: int) -> NDArray[np.uint8]:
        import numpy as np

        split, index = places[row]
        with lock:
            if split not in unpacked:
                unpacked[split] = _unpack(file, split)
        image = np.array(unpacked[split][index])
        return image if image.ndim == 3 else image[:, :, None]

    return read


def _unpack(file: Path, split: SplitName) -> NDArray[np.uint8]:
    """The images as a map of an unnamed temporary file: 14 GB of them must not need 14 GB of memory."""
    import numpy as np

    with (
        _damage_told(file),
        zipfile.ZipFile(file) as archive,
        archive.open(f"{split}_images.npy") as packed,
        _temporary_beside(file) as unnamed,
        storage_errors(file.parent),
    ):
        shape, dtype, fortran_order = _read_header(packed)
        shutil.copyfileobj(packed, unnamed, 1 << 20)
        unnamed.flush()
        return np.memmap(unnamed, dtype, "r", shape=shape, order="F" if fortran_order else "C")


def _temporary_beside(file: Path) -> IO[bytes]:
    """On the disk that had room for the file itself, where that can be written."""
    try:
        return tempfile.TemporaryFile(dir=file.parent)
    except OSError:
        return tempfile.TemporaryFile()


MEDMNIST = Dataset(
    name="medmnist",
    summary="MedMNIST v2: PathMNIST and the other 2-D sets, in 28 to 224 pixels",
    params=MedMNISTParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "mirrors"}),
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[MedMNISTParams]]:
    return (MEDMNIST,)
