"""Data set ``pcam``: PatchCamelyon, patches of lymph nodes with or without metastasis in their centre.

A patch counts as tumour where its central 32×32 pixels show some: turning and flipping leave the label
as it is, cropping and shifting do not.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field

from histoflow import SPLITS, DataError, Dataset, Facts, Params, Row, Samples, SplitName, hookimpl
from histoflow_plugins._pcam_files import from_folder, from_network, images_and_labels, slides_missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
CLASSES = ("normal", "tumour")
SHAPE = (96, 96, 3)
IMAGES = 327_680
CITATION = (
    "Veeling, B. S. et al. Rotation equivariant CNNs for digital pathology. MICCAI 2018. "
    "https://doi.org/10.1007/978-3-030-00934-2_24. Ehteshami Bejnordi, B. et al. Diagnostic assessment of "
    "deep learning algorithms for detection of lymph node metastases in women with breast cancer. JAMA 318, "
    "2199-2210 (2017). https://doi.org/10.1001/jama.2017.14585"
)
_BLOCK = 256
"""Images read at once, at least; as much more as a chunk of the file has."""
_LARGEST_BLOCK = 8192


class PCamParams(Params):
    path: Path | None = None
    """The folder that holds the six files camelyonpatch_level_2_split_{train,valid,test}_{x,y} as .h5 or
    .h5.gz, and perhaps their _meta.csv with the slides, in place of the network (7.5 GB to download)."""
    mirrors: tuple[Annotated[str, Field(pattern=r"^https?://")], ...] = Field((), max_length=20)
    """Addresses of folders on the web to try before the official one."""


def facts(params: PCamParams) -> Facts:
    if params.path is not None and (path := params.path.expanduser().absolute()).exists():
        images_and_labels(path)  # otherwise they may be there where the run will be
    return Facts(
        task="binary",
        classes=CLASSES,
        channels=SHAPE[2],
        size=SHAPE[:2],
        # Files of the user's own may be a part of the set.
        images=None if params.path else IMAGES,
        official_split=True,
        groups=params.path is None or not slides_missing(params.path.expanduser()),
        licence="CC0 1.0",
        citation=CITATION,
    )


def fetch(params: PCamParams, folder: Path) -> Sequence[Path]:
    if params.path is not None:
        return from_folder(params.path.expanduser().absolute(), folder)
    return from_network(params.mirrors, folder)


# ── Labels and slides ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SplitFiles:
    split: SplitName
    images: Path
    labels: Path
    slides: Path | None


@dataclass(frozen=True)
class Table:
    """What the files of one split say of each image, and what is wrong with them."""

    labels: Sequence[int] = ()
    slides: Sequence[str | None] = ()
    mistakes: Sequence[str] = ()


def open_(params: PCamParams, files: Sequence[Path]) -> Samples:
    splits = _by_split(files)
    tables = [_table(split) for split in splits]
    mistakes = [mistake for table in tables for mistake in table.mistakes]
    if mistakes:
        raise DataError(
            "The files of data set 'pcam' cannot be used:\n"
            + "\n".join(f"  {mistake}." for mistake in mistakes)
            + "\nDelete what is damaged and fetch it again, or correct 'path'."
        )
    return Samples(
        classes=CLASSES,
        rows=[
            Row(label=label, source=f"{files_.split}/{index:06}", split=files_.split, group=slide)
            for files_, table in zip(splits, tables, strict=True)
            for index, (label, slide) in enumerate(zip(table.labels, table.slides, strict=True))
        ],
        read=Reader(
            tuple(split.images for split in splits),
            tuple(accumulate(len(table.labels) for table in tables)),
        ),
    )


def _by_split(files: Sequence[Path]) -> list[SplitFiles]:
    """By their order, for which of them is which split their names need not tell; see ``_pcam_files``."""
    arrays = [file for file in files if file.suffix == ".h5"]
    slides: list[Path | None] = [file for file in files if file.suffix == ".csv"]
    return [
        SplitFiles(*each)
        for each in zip(SPLITS, arrays[::2], arrays[1::2], slides or [None] * 3, strict=True)
    ]


def _table(files: SplitFiles) -> Table:
    mistakes: list[str] = []

    def tried(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except DataError as error:
            mistakes.append(str(error))
            return otherwise

    images = tried(lambda: _count_images(files.images), 0)
    labels: Sequence[int] = tried(lambda: _labels(files.labels), ())
    if images and labels and images != len(labels):
        mistakes.append(f"{files.labels} must have a label for each of {images} images. Got {len(labels)}")
    slides: Sequence[str | None] = tried(lambda: _slides(files.slides, len(labels)), ())
    return Table(labels, slides, mistakes)


def _count_images(file: Path) -> int:
    with _dataset(file, "x") as images:
        if images.shape[1:] != SHAPE or images.dtype != "uint8" or not len(images):
            raise DataError(f"'x' in {file} must be N×96×96×3 uint8. Got {_describe(images)}")
        return len(images)


def _labels(file: Path) -> Sequence[int]:
    import numpy as np

    with _dataset(file, "y") as dataset:
        if dataset.dtype.kind not in "iub" or not dataset.shape or dataset.size != len(dataset):
            raise DataError(f"'y' in {file} must be N×1×1×1 integers. Got {_describe(dataset)}")
        labels = np.asarray(dataset[()]).reshape(-1)
    strange = np.unique(labels[(labels != 0) & (labels != 1)]).tolist()
    if strange:
        raise DataError(f"labels in {file} must be 0 or 1. Got {', '.join(map(str, strange[:5]))} as well")
    return [int(label) for label in labels]


def _slides(file: Path | None, count: int) -> Sequence[str | None]:
    if file is None:
        return [None] * count
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            columns = list(reader.fieldnames or ())
            slides = [row.get("wsi") or "" for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if "wsi" not in columns:
        raise DataError(f"{file} must have a column 'wsi'. Got {', '.join(columns) or 'nothing'}")
    if count and len(slides) != count:
        raise DataError(f"{file} must have a row for each of {count} images. Got {len(slides)}")
    if "" in slides:
        raise DataError(f"{file} must name the slide of each image. Row {slides.index('') + 1} names none")
    return slides


def _describe(dataset: Any) -> str:
    return f"{'×'.join(map(str, dataset.shape)) or 'one number'} {dataset.dtype}"


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _dataset(file: Path, name: str) -> Iterator[Any]:
    """An array in an HDF5 file, which is open no longer than this."""
    import h5py

    try:
        # Without a lock, for the folder may be one that cannot be written.
        with h5py.File(file, "r", locking=False) as content:
            dataset = content.get(name)
            if not isinstance(dataset, h5py.Dataset):
                names = ", ".join(f"'{there}'" for there in content) or "nothing"
                raise DataError(f"{file} must hold an array '{name}'. It holds {names}")
            yield dataset
    except (OSError, RuntimeError, KeyError) as error:  # h5py tells damage by any of them
        raise DataError(f"{file} is damaged or no HDF5 file: {error}") from error


@dataclass(frozen=True)
class _Block:
    file: Path
    first: int
    images: NDArray[np.uint8]

    def holds(self, file: Path, index: int) -> bool:
        return self.file == file and self.first <= index < self.first + len(self.images)


@dataclass
class Reader:
    """Reads by blocks, of which it keeps the last: image after image costs little.

    No file stays open, so it may be pickled, forked, and called from several threads.
    """

    files: tuple[Path, ...]
    ends: tuple[int, ...]
    """The row after the last of each file."""
    _block: _Block | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, row: int) -> NDArray[np.uint8]:
        which = bisect_right(self.ends, row)
        file, index = self.files[which], row - (self.ends[which - 1] if which else 0)
        block = self._block
        if block is None or not block.holds(file, index):
            block = self._block = _read_block(file, index)
        image: NDArray[np.uint8] = block.images[index - block.first].copy()
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_block": None}


def _read_block(file: Path, index: int) -> _Block:
    with _dataset(file, "x") as images:
        rows = _rows_at_once(images.chunks)
        first = index // rows * rows
        return _Block(file, first, images[first : first + rows])


def _rows_at_once(chunks: tuple[int, ...] | None) -> int:
    """Whole chunks, for a chunk is read and unpacked whole whichever part of it is asked for."""
    chunk = chunks[0] if chunks else 1
    return min(-(-_BLOCK // chunk) * chunk, _LARGEST_BLOCK)


PCAM = Dataset(
    name="pcam",
    summary="PatchCamelyon: lymph node patches, tumour in the centre or none, in 96 pixels",
    params=PCamParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "mirrors"}),
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[PCamParams]]:
    return (PCAM,)
