"""The images that a table lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow import SplitName
from histoflow_plugins._class_names import numbered
from histoflow_plugins._image_files import SPLIT_NAMES
from histoflow_plugins._manifest import Manifest, weight_of

if TYPE_CHECKING:
    from histoflow_plugins.table import TableParams

FLAGS: Mapping[str, bool] = {
    "0": False,
    "0.0": False,
    "false": False,
    "1": True,
    "1.0": True,
    "true": True,
}
"""What a cell may hold that says whether an image shows a class, in lower case."""


@dataclass(frozen=True)
class Listed:
    """The images of a table without mistakes, row by row."""

    classes: tuple[str, ...]
    labels: Sequence[int | tuple[int, ...]]
    groups: Sequence[str] | None
    splits: Sequence[SplitName] | None
    weights: Sequence[float] | None


def listed(table: Manifest, params: TableParams) -> Listed:
    classes = classes_of(table, params)
    splits, weights = _optional(table, params.split), _optional(table, params.weight)
    return Listed(
        classes=classes,
        labels=_several_labels(table, params) if params.labels else _labels(table, params, classes),
        groups=_optional(table, params.group),
        splits=[SPLIT_NAMES[split.lower()] for split in splits] if splits else None,
        weights=[weight_of(weight) or 1.0 for weight in weights] if weights else None,
    )


def label_columns(params: TableParams) -> tuple[str, ...]:
    return params.labels or (params.label,)


def classes_of(table: Manifest, params: TableParams) -> tuple[str, ...]:
    return params.labels or params.classes or tuple(numbered(table.cells[params.label]))


def places_of(table: Manifest, params: TableParams, root: Path) -> list[str]:
    """Where each image should lie. Backslashes are those of a table that was made on Windows."""
    start = os.path.join(root, "")  # noqa: PTH118
    return [
        start + cell + params.suffix if _is_plain(cell) else _normal(root, cell + params.suffix)
        for cell in table.cells[params.image]
    ]


def _is_plain(cell: str) -> bool:
    """Whether it says in the shortest way where a file lies below a folder."""
    return not (cell.startswith(("/", ".")) or "\\" in cell or "/." in cell or "//" in cell)


def _normal(root: Path, cell: str) -> str:
    return os.path.normpath(os.path.join(root, cell.replace("\\", "/")))  # noqa: PTH118


def _optional(table: Manifest, column: str | None) -> Sequence[str] | None:
    return table.cells.get(column) if column else None


def _labels(table: Manifest, params: TableParams, classes: Sequence[str]) -> list[int]:
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[label] for label in table.cells[params.label]]


def _several_labels(table: Manifest, params: TableParams) -> list[tuple[int, ...]]:
    columns = [table.cells[name] for name in params.labels]
    return [
        tuple(number for number, cell in enumerate(cells) if FLAGS[cell.lower()])
        for cells in zip(*columns, strict=True)
    ]
