"""Data set ``arrays``: images and labels in npz, npy or HDF5 files of one's own.

::

    images: data.npz                                  arrays of usual names: images and labels, x and y, …
    images: data.npz, image_key: X_{split}            X_train, X_test, with y_train, y_test beside
    images: pixels.h5, labels: classes.npy            in two files
    images: '{split}_x.h5', labels: '{split}_y.h5'    in two files a split
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import field_validator

from histoflow import DataError, Dataset, Facts, Params, Row, Samples, SplitName, hookimpl, task_of
from histoflow_plugins._array_labels import Labels, groups_of, labels_of, splits_of, weights_of
from histoflow_plugins._array_parts import SPLIT, Part, Place, are_there, parts_of
from histoflow_plugins._array_pixels import ArrayImages, Form, Layout, Rows, Values, form_of, white_of
from histoflow_plugins._class_names import ClassNames
from histoflow_plugins._image_files import lines_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class ArraysParams(Params):
    images: Path | None = None
    """The npz, npy or HDF5 file with the images, which must be given. {split} in the name of a file or an
    array stands for train, val (valid, validation) and test, where each split has its own."""
    labels: Path | None = None
    """The file with the labels; null takes that of the images."""
    image_key: str | None = None
    """The name of the array of images: N×H×W, N×H×W×C or N×C×H×W; null looks for a usual one."""
    label_key: str | None = None
    """The name of the array of labels: a whole number or a text an image, or N×K of 0 and 1; null looks for
    a usual one."""
    group_key: str | None = None
    """The array with the patient, slide or photo that an image is of, none of which stands in two splits."""
    split_key: str | None = None
    """The array that says train, val (valid, validation) or test of each image."""
    weight_key: str | None = None
    """The array that says how often sampler weighted draws an image, above 0."""
    classes: ClassNames = ()
    """The names of labels 0, 1, …, or the texts that there may be; empty takes what there is."""
    multilabel: bool | None = None
    """Whether images show any number of the classes; null: if labels are N×K and some have not just one 1."""
    layout: Layout = "auto"
    """Whether an image's colours are its last axis (hwc) or its first (chw); auto: whichever has 1 or 3."""
    values: Values = "auto"
    """Which values go from black to white; auto: as the type tells, and for float some of the images."""

    @field_validator("images", "labels")
    @classmethod
    def _mean_the_same_files_from_anywhere(cls, path: Path | None) -> Path | None:
        """What holds ``{split}`` is not there itself; the folder around it is."""
        if path is None or SPLIT not in str(path):
            return path
        absolute = path.expanduser().absolute()
        before = Path(str(absolute).partition(SPLIT)[0] + "_").parent
        return absolute if before.is_dir() else path


@dataclass(frozen=True)
class Content:
    """What the files hold, but for the pixels."""

    parts: Sequence[Part]
    form: Form
    names: Sequence[str]
    labels: Labels
    groups: Sequence[str] | None
    splits: Sequence[SplitName] | None
    weights: Sequence[float] | None


def facts(params: ArraysParams) -> Facts:
    if not are_there(_images(params)):
        return Facts()  # they may be there where the run will be
    found = _sound(params)
    return Facts(
        task="multilabel" if found.labels.multilabel else task_of(found.labels.classes),
        classes=found.labels.classes,
        channels=found.form.channels,
        size=found.form.size,
        images=len(found.names),
        official_split=found.splits is not None,
        groups=found.groups is not None,
        licence="unknown",
    )


def fetch(params: ArraysParams, folder: Path) -> Sequence[Path]:
    places = [place for part in _sound(params).parts for place in part.places()]
    files = dict.fromkeys(file for file, _ in places)
    for file in files:
        file.check([name for other, name in places if other is file])
    return [file.file for file in files]


def open_(params: ArraysParams, files: Sequence[Path]) -> Samples:
    found = _sound(params)
    rows = Rows.of([part.images for part in found.parts])
    try:
        white = white_of(rows, params.values)
    except DataError as error:
        raise _refusal(params, [str(error)]) from error
    return Samples(
        classes=found.labels.classes,
        rows=list(map(Row, found.labels.of, found.names, *_optional_fields(found))),
        read=ArrayImages(rows, found.form.colours_first, white),
        task="multilabel" if found.labels.multilabel else None,
    )


def _optional_fields(
    found: Content,
) -> tuple[Iterable[SplitName | None], Iterable[str | None], Iterable[float]]:
    return found.splits or repeat(None), found.groups or repeat(None), found.weights or repeat(1.0)


def _images(params: ArraysParams) -> str:
    if params.images is None:
        raise DataError(
            "The 'images' parameter of data set 'arrays' must name an npz, npy or HDF5 file. "
            "Got nothing. Add, for example, images: data/patches.npz"
        )
    return str(params.images.expanduser().absolute())


def _sound(params: ArraysParams) -> Content:
    """The files' content, once nothing is wrong with it."""
    labels = str(params.labels.expanduser().absolute()) if params.labels else None
    try:
        parts = parts_of(params, _images(params), labels)
    except DataError as error:
        raise _refusal(params, [str(error)]) from error
    reading = _Reading(params, parts)
    content = reading.content()
    if content is None:
        raise _refusal(params, reading.mistakes)
    return content


def _refusal(params: ArraysParams, mistakes: Sequence[str]) -> DataError:
    begin, end = (
        f"Data set 'arrays' cannot use {params.images}:",
        "Correct the files, or the parameters that tell which arrays are meant.",
    )
    return DataError("\n".join((begin, *lines_of(mistakes), end)))


class _Reading:
    """Reads all but the pixels, and notes every mistake."""

    def __init__(self, params: ArraysParams, parts: Sequence[Part]) -> None:
        self._params, self._parts = params, parts
        self.mistakes: list[str] = []

    def content(self) -> Content | None:
        params, names = self._params, [name for part in self._parts for name in _names(part)]
        form = self._noting(form_of, [part.images for part in self._parts], params.layout)
        labels = self._noting(
            labels_of, self._wholes(lambda part: part.labels), names, params.classes, params.multilabel
        )
        groups = self._optional(groups_of, names, lambda part: part.group)
        splits = self._optional(splits_of, names, lambda part: part.split_of)
        weights = self._optional(weights_of, names, lambda part: part.weight)
        if self.mistakes or form is None or labels is None:
            return None
        by_part = [part.split for part in self._parts for _ in _names(part) if part.split]
        return Content(self._parts, form, names, labels, groups, splits or by_part or None, weights)

    def _noting(self, function: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return function(*arguments)
        except DataError as error:
            self.mistakes.append(str(error))
            return None

    def _optional(
        self, function: Callable[..., T], names: Sequence[str], place: Callable[[Part], Place | None]
    ) -> T | None:
        wholes = self._wholes(place)
        return self._noting(function, wholes, names) if wholes else None

    def _wholes(self, place: Callable[[Part], Place | None]) -> list[NDArray[Any]]:
        places = [found for part in self._parts if (found := place(part))]
        return [file.whole(name) for file, name in places]


def _names(part: Part) -> list[str]:
    """The split and the row of each image."""
    file, name = part.images
    begin = f"{part.split}/" if part.split else ""
    return [f"{begin}{index:06}" for index in range(file.headers[name].shape[0])]


ARRAYS = Dataset(
    name="arrays",
    summary="Images and labels in npz, npy or HDF5 files, under names of your own",
    params=ArraysParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"images", "labels"}),
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[ArraysParams]]:
    return (ARRAYS,)
