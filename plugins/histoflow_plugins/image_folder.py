"""Data set ``image_folder``: a folder of one's own, with one sub-folder a class.

::

    patches/adipose/001.png                 patches/train/adipose/001.png
    patches/tumour/17/002.tif       or      patches/val/adipose/…
                                            patches/test/adipose/…
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn, TypeVar

from histoflow import (
    SPLITS,
    DataError,
    Dataset,
    Facts,
    Params,
    Row,
    Samples,
    SplitName,
    hookimpl,
    progress,
    task_of,
)
from histoflow.images import SUFFIXES, read_rgb

SPLIT_FOLDERS: Mapping[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
T = TypeVar("T")
PATH_COLUMNS = ("path", "file", "filename", "image")


class ImageFolderParams(Params):
    path: Path | None = None
    """The folder, which must be given: one sub-folder a class, or train, val and test with those inside."""
    groups: Path | None = None
    """A CSV with the columns path (or only the file's name) and group: the patient, slide or photo that an
    image is of; and perhaps weight, above 0: how often sampler weighted draws an image (1 where it is left
    empty). A relative path is looked for in the working folder, then in the folder of the data."""


# ── The folder ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Survey:
    """What lies in the folder."""

    root: Path
    tops: tuple[str, ...]
    """The folders at the top: classes or splits."""
    images: Mapping[tuple[SplitName | None, str], Sequence[Path]]
    """The images of each class, within each split where there are splits."""
    others: tuple[Path, ...]
    """Files that are no images, and images outside the class folders."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({name for _, name in self.images}))

    @property
    def files(self) -> list[Path]:
        return sorted(path for images in self.images.values() for path in images)

    @property
    def split_folders(self) -> list[str]:
        return [name for name in self.tops if name.lower() in SPLIT_FOLDERS]


def survey(root: Path) -> Survey:
    tops, others = _listing(root)
    splits = [top for top in tops if top.name.lower() in SPLIT_FOLDERS]
    images: dict[tuple[SplitName | None, str], list[Path]] = defaultdict(list)
    for folder in splits or [root]:
        classes, loose = _listing(folder)
        others += loose if splits else []
        for one in classes:
            files = list(_files_under(one))
            found = [path for path in files if _is_image(path)]
            images[SPLIT_FOLDERS.get(folder.name.lower()) if splits else None, one.name] += found
            others += [path for path in files if not _is_image(path)]
    return Survey(root, tuple(top.name for top in tops), images, tuple(others))


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in it, less hidden ones."""
    visible = [path for path in sorted(folder.iterdir()) if not _is_hidden(path.name)]
    return [path for path in visible if path.is_dir()], [path for path in visible if not path.is_dir()]


def _files_under(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_cannot_list):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield from (Path(place, name) for name in files if not _is_hidden(name))


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(f"Cannot list {error.filename}: {error.strerror}. Make it readable.") from error


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def folder_mistakes(found: Survey) -> Iterator[str]:
    """All that is wrong with the folder, each with the names concerned."""
    if not found.images:
        within = f" in {', '.join(found.split_folders)}" if found.split_folders else ""
        yield f"there is no class folder{within}"
        return
    yield from _split_mistakes(found)
    if len(found.classes) == 1:
        yield f"there must be two classes or more. Got only '{found.classes[0]}'"
    for (split, name), images in found.images.items():
        if not images:
            yield f"class '{name}'{f' of {split}' if split else ''} has no images ({', '.join(SUFFIXES)})"


def _split_mistakes(found: Survey) -> Iterator[str]:
    if not found.split_folders:
        return
    strangers = [name for name in found.tops if name not in found.split_folders]
    if strangers:
        yield f"beside {', '.join(found.split_folders)} there may be no other folder. Got {_some(strangers)}"
    for split in SPLITS:
        folders = [name for name in found.split_folders if SPLIT_FOLDERS[name.lower()] == split]
        if len(folders) > 1:
            yield f"only one folder may hold the split {split}. Got {', '.join(folders)}"
        if not folders and split == "train":
            yield f"beside {', '.join(found.split_folders)} there must be a folder train"
        lacking = [name for name in found.classes if (split, name) not in found.images]
        if folders and lacking:
            yield f"all splits must have the same class folders. '{folders[0]}' lacks {_some(lacking)}"


def _some(names: Iterable[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    more = f" and {len(quoted) - 5} more" if len(quoted) > 5 else ""
    return ", ".join(quoted[:5]) + more


# ── The groups ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Groups:
    """The group and weight of each image, by its path within the folder, and what is wrong with the file."""

    of: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()


def read_groups(file: Path, images: Sequence[str]) -> Groups:
    try:
        stated, weights = _stated(file)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        return Groups({}, mistakes=(f"groups file {file} cannot be used: {error}",))
    found, weighed = _of_images(stated, images), _of_images(weights, images)
    missing = [image for image in images if not found[image]]
    torn = [image for image in images if len(found[image]) > 1 or len(weighed[image]) > 1]
    return Groups(
        {image: min(groups) for image, groups in found.items() if groups},
        {image: min(weights) for image, weights in weighed.items() if weights},
        tuple(_group_mistakes(file, missing, torn, list(stated))),
    )


def _of_images(stated: Mapping[str, set[T]], images: Sequence[str]) -> dict[str, set[T]]:
    """What is stated of each image, by its path or by a name that no other image has."""
    namesakes = Counter(PurePosixPath(image).name for image in images)
    found = {}
    for image in images:
        name = PurePosixPath(image).name
        found[image] = stated.get(image) or (stated.get(name, set()) if namesakes[name] == 1 else set())
    return found


def _stated(file: Path) -> tuple[dict[str, set[str]], dict[str, set[float]]]:
    """The groups and the weights that each name in the file is given."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = list(reader.fieldnames or ())
        key = next((name for name in PATH_COLUMNS if name in columns), None)
        if key is None or "group" not in columns:
            raise ValueError(
                f"it must have the columns 'path' and 'group'. Got {_some(columns) or 'nothing'}"
            )
        groups: dict[str, set[str]] = defaultdict(set)
        weights: dict[str, set[float]] = defaultdict(set)
        for row in reader:
            if row[key] and row["group"]:
                name = PurePosixPath(row[key].strip().replace("\\", "/")).as_posix()
                groups[name].add(row["group"].strip())
                if row.get("weight"):
                    weights[name].add(_weight(row["weight"], name))
    return groups, weights


def _weight(text: str, name: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"the weight of '{name}' must be a number above 0. Got '{text}'")
    return weight


def _group_mistakes(file: Path, missing: list[str], torn: list[str], stated: list[str]) -> Iterator[str]:
    if missing:
        yield (
            f"groups file {file} must give each image a group, by its path within the folder or by a file "
            f"name that no other image has. It gives none to {_some(missing)}, and names "
            f"{_some(stated[:2]) or 'no image'}"
        )
    if torn:
        yield (
            f"groups file {file} must give each image one group and one weight. "
            f"It gives several to {_some(torn)}"
        )


def _groups_file(params: ImageFolderParams, root: Path) -> Path | None:
    if params.groups is None:
        return None
    given = params.groups.expanduser()
    return given.absolute() if given.is_file() else root / given


# ── The data set ────────────────────────────────────────────────────────────────────────────────


def facts(params: ImageFolderParams) -> Facts:
    root = _root(params)
    if not root.exists():
        return Facts(channels=3, groups=params.groups is not None)  # it may be there where the run will be
    found = _sound_survey(params)
    return Facts(
        task=task_of(found.classes),
        classes=found.classes,
        channels=3,
        images=len(found.files),
        official_split=bool(found.split_folders),
        groups=params.groups is not None,
        licence="unknown",
    )


def fetch(params: ImageFolderParams, folder: Path) -> Sequence[Path]:
    found = _sound_survey(params)
    groups = _groups_file(params, found.root)
    ignored = [path for path in found.others if path != groups]
    if ignored:
        names = _some(path.relative_to(found.root).as_posix() for path in ignored)
        progress.say(
            f"{found.root}: {len(ignored)} files are no images of a class and are left out: {names}."
        )
    return [*found.files, *([groups] if groups else [])]


def open_(params: ImageFolderParams, files: Sequence[Path]) -> Samples:
    root = _root(params)
    images = [path for path in files if _is_image(path)]
    sources = [path.relative_to(root).as_posix() for path in images]
    places = [_place(source) for source in sources]
    classes = tuple(sorted({name for _, name in places}))
    groups_file = _groups_file(params, root)
    groups = read_groups(groups_file, sources) if groups_file else Groups({})
    _refuse(root, groups.mistakes)
    rows = [
        Row(
            label=classes.index(name),
            source=source,
            split=split,
            group=groups.of.get(source),
            weight=groups.weights.get(source, 1.0),
        )
        for source, (split, name) in zip(sources, places, strict=True)
    ]
    return Samples(classes=classes, rows=rows, read=lambda index: read_rgb(images[index]))


def _place(source: str) -> tuple[SplitName | None, str]:
    """The split and the class that a path within the folder tells."""
    first, second = source.split("/")[:2]
    split = SPLIT_FOLDERS.get(first.lower())
    return split, second if split else first


def _root(params: ImageFolderParams) -> Path:
    if params.path is None:
        raise DataError(
            "The 'path' parameter of data set 'image_folder' must name the folder of the images. "
            "Got nothing. Add, for example, path: data/patches"
        )
    return params.path.expanduser().absolute()


def _sound_survey(params: ImageFolderParams) -> Survey:
    root = _root(params)
    if not root.is_dir():
        _refuse(root, [f"there is no such folder{' (it is a file)' if root.exists() else ''}"])
    found = survey(root)
    mistakes = list(folder_mistakes(found))
    groups = _groups_file(params, root)
    if groups:
        mistakes += read_groups(groups, [path.relative_to(root).as_posix() for path in found.files]).mistakes
    _refuse(root, mistakes)
    return found


def _refuse(root: Path, mistakes: Sequence[str]) -> None:
    if mistakes:
        raise DataError(
            f"Data set 'image_folder' cannot use {root}:\n"
            + "\n".join(f"  {mistake}." for mistake in mistakes)
            + f"\nLay images out as {root.name}/CLASS/IMAGE.png or {root.name}/train/CLASS/IMAGE.png, "
            "or correct 'path' and 'groups'."
        )


IMAGE_FOLDER = Dataset(
    name="image_folder",
    summary="Your own images, one folder a class; JPEG, PNG, TIFF, BMP, WebP",
    params=ImageFolderParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "groups"}),
    version=2,
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[ImageFolderParams]]:
    return (IMAGE_FOLDER,)
