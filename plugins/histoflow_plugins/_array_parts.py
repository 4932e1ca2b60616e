"""Which arrays of which files hold the images and labels: of the whole set, or of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow import DataError, SplitName
from histoflow_plugins._array_files import ArrayFile, described, open_arrays, refuse_objects
from histoflow_plugins._image_files import SPLIT_NAMES, few

if TYPE_CHECKING:
    from histoflow_plugins.arrays import ArraysParams

SPLIT = "{split}"
"""Stands for the name of a split, in the names of files and arrays."""
IMAGE_KEYS = ("images", "image", "x", "X", "data")
LABEL_KEYS = ("labels", "label", "y", "Y", "targets", "target")
Place = tuple[ArrayFile, str]
"""An array of a file."""


@dataclass(frozen=True)
class Part:
    """The arrays of one split, or of all data."""

    split: SplitName | None
    images: Place
    labels: Place
    group: Place | None
    split_of: Place | None
    weight: Place | None

    def places(self) -> list[Place]:
        optional = (self.group, self.split_of, self.weight)
        return [self.images, self.labels, *(place for place in optional if place)]


def parts_of(params: ArraysParams, images: str, labels: str | None) -> list[Part]:
    """In these files, whose names may hold ``{split}``. Raises DataError with what is missing."""
    search = _Search(params, images, labels)
    words = SPLIT_NAMES if search.is_by_split else ("",)
    parts = [part for part in map(search.part, words) if part]
    if search.is_by_split:
        _refuse_odd_splits([part.split for part in parts], params)
    for part in parts:
        for file, name in part.places():
            refuse_objects(file, name)
        _refuse_odd_lengths(part)
    return parts


class _Search:
    def __init__(self, params: ArraysParams, images: str, labels: str | None) -> None:
        self._params = params
        self._image_files = _files(images)
        self._label_files = _files(labels) if labels else self._image_files
        self._image_key = params.image_key or _usual(self._image_files, IMAGE_KEYS, "image_key", alone=True)
        self._label_key = params.label_key or _usual(
            self._label_files, LABEL_KEYS, "label_key", alone=labels is not None
        )
        self.is_by_split = SPLIT in images + self._image_key
        if self.is_by_split != (SPLIT in (labels or images) + self._label_key):
            raise DataError(
                f"{SPLIT} must stand in a name of the images and in one of the labels, or in none"
            )

    def part(self, word: str) -> Part | None:
        images = _place(self._image_files, self._image_key, word)
        labels = _place(self._label_files, self._label_key, word)
        if not images and not labels and word:
            return None
        if not images:
            raise self._absent(self._image_files, "image_key", self._image_key, word)
        if not labels:
            raise self._absent(self._label_files, "label_key", self._label_key, word)
        return Part(
            SPLIT_NAMES.get(word),
            images,
            labels,
            group=self._optional("group_key", self._params.group_key, word),
            split_of=self._optional("split_key", self._params.split_key, word),
            weight=self._optional("weight_key", self._params.weight_key, word),
        )

    def _optional(self, parameter: str, key: str | None, word: str) -> Place | None:
        if key is None:
            return None
        place = _place(self._label_files, key, word) or _place(self._image_files, key, word)
        if place is None:
            raise self._absent(self._label_files, parameter, key, word)
        return place

    def _absent(self, files: Mapping[str, ArrayFile], parameter: str, key: str, word: str) -> DataError:
        file = files.get(word) or files.get("")
        if file is None:
            return DataError(f"split '{word}' must have a file of images and one of labels. One is not there")
        return DataError(
            f"{file.file} has no array '{_name(key, word)}'. It has {described(file)}. Correct {parameter}"
        )


def _files(pattern: str) -> dict[str, ArrayFile]:
    """By the word for their split, or by nothing."""
    if SPLIT not in pattern:
        return {"": open_arrays(Path(pattern))}
    there = {word: Path(pattern.replace(SPLIT, word)) for word in SPLIT_NAMES}
    found = {word: open_arrays(path) for word, path in there.items() if path.is_file()}
    if not found:
        raise DataError(f"there is no file {pattern}, where {SPLIT} is one of {', '.join(SPLIT_NAMES)}")
    return found


def are_there(pattern: str) -> bool:
    """Whether at least one file of this name is."""
    return any(Path(pattern.replace(SPLIT, word)).exists() for word in SPLIT_NAMES)


def _usual(files: Mapping[str, ArrayFile], usual: Sequence[str], parameter: str, *, alone: bool) -> str:
    """The name under which such arrays commonly lie."""
    file = files.get("train") or next(iter(files.values()))
    by_split = [
        pattern for key in usual for pattern in (f"{key}_{SPLIT}", f"{SPLIT}_{key}", f"{SPLIT}/{key}")
    ]
    for key in (*usual, *by_split):
        if _name(key, "train") in file.headers:
            return key
    if alone and len(file.headers) == 1:
        return next(iter(file.headers))
    raise DataError(
        f"it cannot be told which array of {file.file} is meant. It has {described(file)}. Set {parameter}"
    )


def _place(files: Mapping[str, ArrayFile], key: str, word: str) -> Place | None:
    file, name = files.get(word) or files.get(""), _name(key, word)
    return (file, name) if file and name in file.headers else None


def _name(key: str, word: str) -> str:
    return key.replace(SPLIT, word).lstrip("/")


def _refuse_odd_splits(splits: Sequence[SplitName | None], params: ArraysParams) -> None:
    if params.split_key is not None:
        raise DataError(f"splits must be told by {SPLIT} in names or by split_key. Got both")
    if "train" not in splits:
        raise DataError(f"there must be a split train. Got {', '.join(map(str, splits)) or 'none'}")
    if len(set(splits)) < len(splits):
        raise DataError(f"a split must stand under one name. Got {', '.join(map(str, splits))}")


def _refuse_odd_lengths(part: Part) -> None:
    lengths = [_length(file, name) for file, name in part.places()]
    if len(set(lengths)) > 1 or part.images == part.labels:
        names = [f"'{name or file.file.name}'" for file, name in part.places()]
        told = few(f"{name} has {length}" for name, length in zip(names, lengths, strict=True))
        raise DataError(f"images and labels must be two arrays with one row for each image. {told}")


def _length(file: ArrayFile, name: str) -> int:
    return file.headers[name].shape[0] if file.headers[name].shape else 0
