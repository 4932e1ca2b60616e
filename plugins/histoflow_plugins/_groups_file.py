"""A table beside a folder of images: which patient, slide or photo each of them is of, and its weight."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

from histoflow import DataError
from histoflow_plugins._image_files import some
from histoflow_plugins._manifest import Manifest, read_manifest, weight_of

PATH_COLUMNS = ("path", "file", "filename", "image")
T = TypeVar("T")


@dataclass(frozen=True)
class Groups:
    """The group and weight of each image, by its path within the folder, and what is wrong with the file."""

    of: Mapping[str, str]
    weights: Mapping[str, float] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()


def read_groups(file: Path, images: Sequence[str]) -> Groups:
    try:
        groups, weights = _stated(read_manifest(file, (*PATH_COLUMNS, "group", "weight")))
    except DataError as error:
        return Groups({}, mistakes=(f"groups file {file} cannot be used: {error}",))
    found, weighed = _of_images(groups, images), _of_images(weights, images)
    missing = [image for image in images if not found[image]]
    torn = [image for image in images if len(found[image]) > 1 or len(weighed[image]) > 1]
    return Groups(
        {image: min(groups) for image, groups in found.items() if groups},
        {image: min(weights) for image, weights in weighed.items() if weights},
        tuple(_mistakes(file, missing, torn, list(groups))),
    )


def _stated(table: Manifest) -> tuple[dict[str, set[str]], dict[str, set[float]]]:
    """The groups and the weights that each name in the file is given."""
    key = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if key is None or "group" not in table.columns:
        found = some(table.columns) or "nothing"
        raise DataError(f"it must have the columns 'path' and 'group'. Got {found}")
    groups: dict[str, set[str]] = defaultdict(set)
    weights: dict[str, set[float]] = defaultdict(set)
    cells = table.cells.get("weight", [""] * len(table))
    for path, group, cell in zip(table.cells[key], table.cells["group"], cells, strict=True):
        if path and group:
            name = PurePosixPath(path.replace("\\", "/")).as_posix()
            groups[name].add(group)
            if cell:
                weights[name].add(_weight(cell, name))
    return groups, weights


def _weight(cell: str, name: str) -> float:
    weight = weight_of(cell)
    if weight is None:
        raise DataError(f"the weight of '{name}' must be a number above 0. Got '{cell}'")
    return weight


def _of_images(stated: Mapping[str, set[T]], images: Sequence[str]) -> dict[str, set[T]]:
    """What is stated of each image, by its path or by a name that no other image has."""
    namesakes = Counter(image.rpartition("/")[2] for image in images)
    found = {}
    for image in images:
        name = image.rpartition("/")[2]
        found[image] = stated.get(image) or (stated.get(name, set()) if namesakes[name] == 1 else set())
    return found


def _mistakes(file: Path, missing: list[str], torn: list[str], stated: list[str]) -> Iterator[str]:
    if missing:
        yield (
            f"groups file {file} must give each image a group, by its path within the folder or by a file "
            f"name that no other image has. It gives none to {some(missing)}, and names "
            f"{some(stated[:2]) or 'no image'}"
        )
    if torn:
        yield (
            f"groups file {file} must give each image one group and one weight. "
            f"It gives several to {some(torn)}"
        )
