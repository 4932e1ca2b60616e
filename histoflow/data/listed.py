"""A list of images in a CSV or Parquet file: a column of paths, and others that are passed on."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from histoflow.data.incoming import Incoming
from histoflow.errors import DataError

SUFFIXES = (".csv", ".parquet")
PATH = "path"


@dataclass(frozen=True)
class Listed:
    """The content of a list."""

    folder: Path
    """What its paths are relative to."""
    paths: list[str | None]
    carried: pa.Table | None
    """The other columns, as text; None where there are none."""

    @property
    def columns(self) -> list[str]:
        """The names of the others."""
        return self.carried.column_names if self.carried else []


@dataclass(frozen=True)
class ReadListed:
    """Reads an image as ``read`` does, and calls it what the list does."""

    folder: Path
    read: Callable[[Path], Incoming]

    def __call__(self, path: str | None) -> Incoming:
        if not path:
            return Incoming("", None, "the list names no file here")
        return replace(self.read(self.folder / path), name=path)


def is_list(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read(path: Path) -> Listed:
    """The list at this path, or a DataError that says what is the matter with it."""
    try:
        table = _csv(path) if path.suffix.lower() == ".csv" else pq.read_table(path)
    except (pa.ArrowException, UnicodeDecodeError, OSError, csv.Error) as error:
        raise DataError(
            f"The list {path} cannot be read: {error}. It must be a CSV file (UTF-8, commas, a first line of "
            f"names) or a Parquet file."
        ) from error
    _refuse_other_columns(path, table.column_names)
    if not len(table):
        raise DataError(f"The list {path} must name at least one image. Got none. Add rows, or name another.")
    text = pa.table([_as_text(path, table, name) for name in table.column_names], table.column_names)
    others = text.drop_columns([PATH]) if text.num_columns > 1 else None
    return Listed(path.parent, text[PATH].to_pylist(), others)


def _csv(path: Path) -> pa.Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(filter(None, csv.reader(file)), [])  # Arrow passes over blank lines as well
    as_text = pcsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    return pcsv.read_csv(
        path, convert_options=as_text, parse_options=pcsv.ParseOptions(newlines_in_values=True)
    )


def _refuse_other_columns(path: Path, names: list[str]) -> None:
    if PATH not in names:
        raise DataError(
            f"The list {path} must have a column '{PATH}' with the images' files, relative to the list's "
            f"folder. Got {', '.join(names)}. Rename the column that has them; columns are parted by commas."
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"Each column of the list {path} must have a name of its own. Got {', '.join(twice)} more than "
            f"once. Rename them."
        )


def _as_text(path: Path, table: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        return table[name].cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"Column '{name}' of the list {path} must hold text, numbers or dates. Got {table[name].type}. "
            f"Leave it out."
        ) from error
