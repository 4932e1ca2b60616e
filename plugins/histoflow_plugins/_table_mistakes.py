"""What is wrong with a table of images, and with the files that it names."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from histoflow.images import SUFFIXES
from histoflow_plugins._image_files import SPLIT_NAMES, few, shown, some
from histoflow_plugins._manifest import Manifest, cells_of, rows_of, weight_of
from histoflow_plugins._table_reading import FLAGS, label_columns, places_of

if TYPE_CHECKING:
    from histoflow_plugins.table import TableParams


def mistakes(table: Manifest, params: TableParams, root: Path) -> Iterator[str]:
    """All of them, each with the rows concerned."""
    yield from _column_mistakes(table, params)
    if not table.numbers:
        yield "it has no rows below the names of its columns"
        return
    yield from _empty_cells(table, params)
    yield from _label_mistakes(table, params)
    yield from _split_mistakes(table, params.split or "")
    strange = table.where(params.weight or "", lambda cell: weight_of(cell) is None)
    if strange:
        yield (
            f"column '{params.weight}' must hold numbers above 0. Got {cells_of(strange)}; "
            f"or set weight: null"
        )
    if params.image in table.cells:
        yield from _image_mistakes(table, params, root)


# ── Cells ───────────────────────────────────────────────────────────────────────────────────────


def _column_mistakes(table: Manifest, params: TableParams) -> Iterator[str]:
    """Columns of these names may lack where nobody asked for them by another name."""
    chosen = [
        name
        for name, usual in ((params.group, "group"), (params.split, "split"), (params.weight, "weight"))
        if name and name != usual
    ]
    absent = [name for name in (params.image, *label_columns(params), *chosen) if name not in table.columns]
    if absent:
        yield (
            f"it must have the column{'s' if len(absent) > 1 else ''} {some(absent)}. "
            f"It has {few(map(repr, table.columns)) or 'none'}"
        )


def _empty_cells(table: Manifest, params: TableParams) -> Iterator[str]:
    advice = {params.image: "", params.label: ""} if not params.labels else {params.image: ""}
    if params.group:
        advice.setdefault(params.group, "; or set group: null")
    for column, way_out in advice.items():
        empty = [number for number, _ in table.where(column, lambda cell: not cell)]
        if empty:
            yield f"column '{column}' must be filled in each row. Empty: {rows_of(empty)}{way_out}"


def _label_mistakes(table: Manifest, params: TableParams) -> Iterator[str]:
    for column in params.labels:
        strange = table.where(column, lambda cell: cell.lower() not in FLAGS)
        if strange:
            yield f"column '{column}' of labels must hold 0 or 1. Got {cells_of(strange)}"
    if params.labels or params.label not in table.cells:
        return
    unknown = table.where(params.label, lambda cell: bool(cell) and cell not in params.classes)
    found = {cell for cell in table.cells[params.label] if cell}
    if params.classes and unknown:
        yield f"labels must be of the classes {', '.join(params.classes)}. Got {cells_of(unknown)}"
    if len(params.classes or found) < 2:
        yield f"there must be two classes or more. Got {some(params.classes or sorted(found)) or 'none'}"


def _split_mistakes(table: Manifest, column: str) -> Iterator[str]:
    if column not in table.cells:
        return
    strange = table.where(column, lambda cell: cell.lower() not in SPLIT_NAMES)
    if strange:
        legal = ", ".join(SPLIT_NAMES)
        yield f"column '{column}' must hold {legal}. Got {cells_of(strange)}; or set split: null"
    elif "train" not in {SPLIT_NAMES[cell.lower()] for cell in table.cells[column]}:
        yield f"column '{column}' must have train in some rows. Got none; or set split: null"


# ── Files ───────────────────────────────────────────────────────────────────────────────────────


class _Image(NamedTuple):
    row: int
    cell: str
    place: str
    labels: tuple[str, ...]


def _image_mistakes(table: Manifest, params: TableParams, root: Path) -> Iterator[str]:
    if not root.is_dir():
        yield f"its paths start from {root}, which is no folder"
        return
    images = list(_images(table, params, root))
    yield from _named_twice(images)
    look = _Look(root, params.outside)
    judged = [(image, look.at(image.place)) for image in images]
    outside = [image for image, found in judged if found == "outside"]
    if outside:
        yield (f"images must lie in {root}. Not so {_cells(outside)}; where that is meant, set outside: true")
    missing = [image for image, found in judged if found == "nothing"]
    if missing:
        yield f"there is no file for {_cells(missing)}{_advice(missing[0].place)}"


def _images(table: Manifest, params: TableParams, root: Path) -> Iterator[_Image]:
    columns = [table.cells[name] for name in label_columns(params) if name in table.cells]
    labels = zip(*columns, strict=True) if columns else repeat(())
    places = places_of(table, params, root)
    for row, cell, place, label in zip(table.numbers, table.cells[params.image], places, labels):  # noqa: B905
        if cell:
            yield _Image(row, cell, place, label)


def _cells(images: Iterable[_Image]) -> str:
    return cells_of((image.row, image.cell) for image in images)


def _named_twice(images: Iterable[_Image]) -> Iterator[str]:
    by_place: dict[str, list[_Image]] = defaultdict(list)
    for image in images:
        by_place[image.place].append(image)
    twice = [several for several in by_place.values() if len(several) > 1]
    torn = [several for several in twice if len({image.labels for image in several}) > 1]
    alike = [several for several in twice if len({image.labels for image in several}) == 1]
    if torn:
        yield f"an image must have one row. With different labels stand {_rows_each(torn)}"
    if alike:
        yield (
            f"an image must have one row; to have it drawn more often, give it a weight. "
            f"Several have {_rows_each(alike)}"
        )


def _rows_each(several: Iterable[Sequence[_Image]]) -> str:
    return few(f"'{shown(images[0].cell)}' ({rows_of(image.row for image in images)})" for images in several)


def _advice(place: str) -> str:
    """For a column that holds names without their endings."""
    suffix = next((suffix for suffix in SUFFIXES if os.path.isfile(place + suffix)), None)  # noqa: PTH113
    return f"; there is '{shown(Path(place).name)}{suffix}': set suffix: {suffix}" if suffix else ""


class _Look:
    """Tells what stands at a place. Names are text here, which is four times as fast as ``Path``."""

    def __init__(self, root: Path, outside: bool) -> None:
        self._root, self._real_root = str(root), os.path.realpath(root)
        self._goes_outside = outside
        self._is_within = cache(self._has_folder_within)

    def at(self, place: str) -> Literal["file", "nothing", "outside"]:
        if "\0" in place:  # no name can have it
            return "nothing"
        if not self._goes_outside and not self._is_within(place.rpartition(os.sep)[0]):
            return "outside"
        try:
            mode = os.lstat(place).st_mode
        except (OSError, ValueError):  # among them names that no file can have
            return "nothing"
        if stat.S_ISLNK(mode):
            return self._behind_link(os.path.realpath(place))
        return "file" if stat.S_ISREG(mode) else "nothing"

    def _behind_link(self, place: str) -> Literal["file", "nothing", "outside"]:
        if not self._goes_outside and not _within(place, self._real_root):
            return "outside"
        return "file" if os.path.isfile(place) else "nothing"  # noqa: PTH113

    def _has_folder_within(self, folder: str) -> bool:
        return _within(folder, self._root) and _within(os.path.realpath(folder), self._real_root)


def _within(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))  # noqa: PTH118
