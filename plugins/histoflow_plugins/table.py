"""Data set ``table``: a CSV or Parquet file that names images and says what each of them is.

::

    path,label,group,split                        path,necrosis,tumour
    a/001.png,tumour,patient 7,train      or      a/001.png,0,1           (labels: [necrosis, tumour])
    a/002.png,stroma,patient 9,test               a/002.png,0,0
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from histoflow import DataError, Dataset, Facts, Params, Row, Samples, SplitName, hookimpl, progress, task_of
from histoflow_plugins._class_names import ClassNames
from histoflow_plugins._image_files import FileReader, lines_of, shown
from histoflow_plugins._manifest import Manifest, read_manifest
from histoflow_plugins._table_mistakes import mistakes
from histoflow_plugins._table_reading import Listed, label_columns, listed, places_of


class TableParams(Params):
    path: Path | None = None
    """The CSV (UTF-8; between commas, semicolons or tabs) or Parquet file, which must be given."""
    root: Path | None = None
    """The folder that the paths in the table start from; null takes the folder of the table. A relative one
    is looked for in the working folder, then beside the table."""
    image: str = "path"
    """The column with the path of each image."""
    suffix: str = ""
    """Added to each path: .tif where the column holds names without it."""
    label: str = "label"
    """The column with the class of each image."""
    labels: tuple[str, ...] = ()
    """In its place several columns of 0 and 1, one a class: an image may show any number of them."""
    classes: ClassNames = ()
    """The labels that there may be, in the model's order; empty takes those that there are."""
    group: str | None = "group"
    """The column with the patient, slide or photo that an image is of, none of which stands in two splits.
    group, split and weight are used where the table has a column of this name; null never uses one."""
    split: str | None = "split"
    """The column with train, val (valid, validation) or test."""
    weight: str | None = "weight"
    """The column with how often sampler weighted draws an image: above 0, and 1 where it is empty."""
    outside: bool = Field(default=False, strict=True)
    """Also take images that lie outside the root, by .., an absolute path or a link."""

    @model_validator(mode="after")
    def _one_way_of_labels(self) -> Self:
        if not self.labels:
            return self
        if self.label != "label" or self.classes:
            raise ValueError(
                "of 'labels' and 'label' with its 'classes' only one may be set: several columns of 0 and 1, "
                f"or one of classes. Got labels {list(self.labels)}. Leave one out."
            )
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError(
                "'labels' must name two columns or more, each once; for one column take 'label'. "
                f"Got {list(self.labels)}."
            )
        return self


def facts(params: TableParams) -> Facts:
    if not _file(params).exists():
        return Facts(channels=3)  # it may be there where the run will be
    table = _sound(params)
    found = listed(table, params)
    return Facts(
        task="multilabel" if params.labels else task_of(found.classes),
        classes=found.classes,
        channels=3,
        images=len(table.numbers),
        official_split=found.splits is not None,
        groups=found.groups is not None,
        licence="unknown",
    )


def fetch(params: TableParams, folder: Path) -> Sequence[Path]:
    table = _sound(params)
    progress.say(f"{_file(params)}: {len(table.numbers):,} images. {_usage(table, params)}.")
    return [_file(params), *map(Path, places_of(table, params, _root(params)))]


def _usage(table: Manifest, params: TableParams) -> str:
    """What a reader must know of leaks: whether the table has told of groups and splits."""
    told = {"Groups": params.group, "splits": params.split, "weights": params.weight}
    return ", ".join(
        f"{what} {f'by column {column!r}' if column in table.columns else 'are not given'}"
        for what, column in told.items()
    )


def open_(params: TableParams, files: Sequence[Path]) -> Samples:
    table, images = _sound(params), files[1:]
    if len(images) != len(table.numbers):
        raise DataError(f"{_file(params)} has changed since it was fetched. Fetch it again.")
    found = listed(table, params)
    names = [str(image).removeprefix(f"{_root(params)}{os.sep}") for image in images]
    return Samples(
        classes=found.classes,
        rows=list(map(Row, found.labels, map(shown, names), *_optional_fields(found))),
        read=FileReader.of(images),
        task="multilabel" if params.labels else None,
        files=images,
    )


def _optional_fields(
    found: Listed,
) -> tuple[Iterable[SplitName | None], Iterable[str | None], Iterable[float]]:
    return found.splits or repeat(None), found.groups or repeat(None), found.weights or repeat(1.0)


def _file(params: TableParams) -> Path:
    if params.path is None:
        raise DataError(
            "The 'path' parameter of data set 'table' must name a CSV or Parquet file. "
            "Got nothing. Add, for example, path: data/patches.csv"
        )
    return params.path.expanduser().absolute()


def _root(params: TableParams) -> Path:
    beside = _file(params).parent
    given = params.root.expanduser() if params.root else beside
    found = given if given.is_absolute() or given.is_dir() else beside / given
    return Path(os.path.abspath(found))  # noqa: PTH100 - links stay, and .. goes


def _sound(params: TableParams) -> Manifest:
    """The table, once nothing is wrong with it and the files that it names."""
    file = _file(params)
    optional = (params.group, params.split, params.weight)
    wanted = [params.image, *label_columns(params), *(name for name in optional if name)]
    try:
        table = read_manifest(file, wanted)
        found = list(mistakes(table, params, _root(params)))
    except DataError as error:
        found = [str(error)]
    if found:
        raise DataError(
            "\n".join(
                (
                    f"Data set 'table' cannot use {file}:",
                    *lines_of(found),
                    "Correct the table, or the parameters that name its columns and its root.",
                )
            )
        )
    return table


TABLE = Dataset(
    name="table",
    summary="A CSV or Parquet file with the path and the labels of each image, perhaps group, split, weight",
    params=TableParams,
    facts=facts,
    fetch=fetch,
    open=open_,
    located_by=frozenset({"path", "root"}),
)


@hookimpl
def histoflow_datasets() -> tuple[Dataset[TableParams]]:
    return (TABLE,)
