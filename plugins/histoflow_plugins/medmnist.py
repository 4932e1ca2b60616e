"""Data set ``medmnist``: the 2-D sets of MedMNIST v2, PathMNIST first among them.

The table of sets, addresses and checksums is that of the ``medmnist`` package. Its source is read
rather than imported: the import brings torch along and makes a folder in the user's home.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from histoflow_plugins._npz import Header, NpzArrays

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
    "multi-label, binary-class": "multilabel",
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
    """The sets that can be used: those of 2-D images."""
    return [name for name, entry in table().items() if not name.endswith("3d") and entry["task"] in TASKS]


def _offer_subsets(schema: dict[str, Any]) -> None:
    schema["enum"] = subsets()


# ── Parameters and facts ────────────────────────────────────────────────────────────────────────


class MedMNISTParams(Params):
    subset: str = Field("pathmnist", json_schema_extra=_offer_subsets)
    """Which of the 2-D sets; pathmnist is colorectal tissue, chestmnist has several labels an image."""
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
        near = difflib.get_close_matches(subset.lower(), subsets(), n=1)
        raise ValueError(f"{legal}.{f' Did you mean {near[0]!r}?' if near else ''}")


def facts(params: MedMNISTParams) -> Facts:
    entry = table()[params.subset]
    if params.path is not None and params.path.expanduser().exists():
        _present(params.path.expanduser(), _file_name(params))  # else it may be there where the run will be
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


def _present(path: Path, name: str) -> Path:
    file = (path / name if path.is_dir() else path).absolute()
    if not file.is_file():
        beside = ", ".join(sorted(near.name for near in file.parent.glob("*.npz"))) or "none"
        raise DataError(
            f"The 'path' parameter of data set 'medmnist' must name {name} or the folder that holds it. "
            f"Got {path}, and there is no file {file}; npz files there: {beside}. "
            f"Correct the path, or leave it out to download."
        )
    return file


def _local_file(path: Path, name: str, md5: str) -> Path:
    file = _present(path, name)
    with file.open("rb") as content:
        got = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        progress.say(f"{file} is not the official {name}: its MD5 is {got}, not {md5}. It is used as it is.")
    return file


# ── Reading it ──────────────────────────────────────────────────────────────────────────────────


def open_(params: MedMNISTParams, files: Sequence[Path]) -> Samples:
    arrays = NpzArrays(files[0])
    problems = _problems(arrays, params)
    if problems:
        raise DataError(
            f"{arrays.file} is not a MedMNIST file of '{params.subset}' at {params.size} pixels:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nCorrect 'subset' or 'size', or bring the official file."
        )
    arrays.check_stored(*(f"{split}_images" for split in SPLITS))
    task = TASKS[table()[params.subset]["task"]]
    labels = {split: _labels(arrays, split, task) for split in SPLITS}
    return Samples(
        classes=_classes(params),
        rows=[
            Row(label=label, source=f"{split}/{index:06}", split=split)
            for split in SPLITS
            for index, label in enumerate(labels[split])
        ],
        read=_Images(arrays, tuple(len(labels[split]) for split in SPLITS)),
        task=task,
    )


@dataclass(frozen=True)
class _Images:
    """Reads the image of a row: those of train come first, then val, then test."""

    arrays: NpzArrays
    counts: tuple[int, ...]

    def __call__(self, row: int) -> NDArray[np.uint8]:
        import numpy as np

        index = row
        for split, count in zip(SPLITS, self.counts, strict=True):
            if index < count:
                image = np.array(self.arrays[f"{split}_images"][index])
                return image if image.ndim == 3 else image[:, :, None]
            index -= count
        raise IndexError(row)


def _labels(arrays: NpzArrays, split: SplitName, task: Task) -> list[int | tuple[int, ...]]:
    found = arrays.whole(f"{split}_labels")
    if task != "multilabel":
        return [int(label) for label in found.reshape(-1)]
    return [tuple(number for number, shown in enumerate(row) if shown) for row in found.tolist()]


def _problems(arrays: NpzArrays, params: MedMNISTParams) -> list[str]:
    """What is wrong with the arrays, found without unpacking images."""
    names = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    missing = [name for name in names if name not in arrays.headers]
    if missing:
        return [f"it must have arrays {', '.join(missing)}"]
    return [
        problem
        for split in SPLITS
        for problem in (
            *_image_problems(split, arrays.headers[f"{split}_images"], params),
            *_label_problems(split, arrays, params),
        )
    ]


def _image_problems(split: SplitName, found: Header, params: MedMNISTParams) -> Iterator[str]:
    side, channels = params.size, table()[params.subset]["n_channels"]
    legal = [(side, side, channels)] + ([(side, side)] if channels == 1 else [])
    if found.shape[1:] not in legal or found.dtype != "uint8":
        wanted = "×".join(str(length) for length in legal[0])
        yield f"{split}_images must be N×{wanted} uint8. Got {_described(found)}"


def _label_problems(split: SplitName, arrays: NpzArrays, params: MedMNISTParams) -> Iterator[str]:
    name, classes = f"{split}_labels", len(_classes(params))
    found = arrays.headers[name]
    images = next(iter(arrays.headers[f"{split}_images"].shape), 0)
    several = TASKS[table()[params.subset]["task"]] == "multilabel"
    legal = [(images, classes)] if several else [(images, 1), (images,)]
    if found.shape not in legal or found.dtype.kind not in "iu":
        wanted = "×".join(str(length) for length in legal[0])
        yield f"{name} must be {wanted} integers. Got {_described(found)}"
        return
    labels, highest = arrays.whole(name), 1 if several else classes - 1
    if images and not (labels.min() >= 0 and labels.max() <= highest):
        yield f"{name} must lie in 0..{highest}. Got {labels.min()}..{labels.max()}"


def _described(found: Header) -> str:
    return f"{'×'.join(map(str, found.shape))} {found.dtype}"


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
