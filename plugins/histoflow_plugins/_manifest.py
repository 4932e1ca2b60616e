"""Tables that say something of each image: CSV or Parquet, every cell as text."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histoflow import DataError
from histoflow_plugins._image_files import few, shown, some

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Manifest:
    """The columns that were asked for, as far as they are there."""

    columns: tuple[str, ...]
    """The names of all."""
    cells: Mapping[str, Sequence[str]]
    """Without spaces around them; empty text where there is nothing."""
    numbers: Sequence[int]
    """The number of each row, as a spreadsheet counts a CSV's: its names stand in row 1."""

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, column: str, wrong: Callable[[str], bool]) -> list[tuple[int, str]]:
        """The rows whose cell is wrong, each with its number; none if there is no such column."""
        cells = self.cells.get(column)
        return (
            [(n, cell) for n, cell in zip(self.numbers, cells, strict=True) if wrong(cell)] if cells else []
        )


def weight_of(cell: str) -> float | None:
    """A finite number above 0; 1 where the cell is empty."""
    try:
        weight = float(cell or 1)
    except ValueError:
        return None
    return weight if 0 < weight < float("inf") else None


def rows_of(numbers: Iterable[int]) -> str:
    """``row 7`` or ``rows 7, 9 and 3 more``."""
    listed = [*numbers]
    return f"row{'s' if len(listed) > 1 else ''} {few(map(str, listed))}"


def cells_of(found: Iterable[tuple[int, str]]) -> str:
    """``row 7 ('tumor'), row 9 ('') and 3 more``."""
    return few(f"row {number} ('{shown(cell)}')" for number, cell in found)


def read_manifest(file: Path, wanted: Collection[str]) -> Manifest:
    """Raises DataError for a file that is no such table."""
    try:
        with file.open("rb") as content:
            parquet = content.read(4) == b"PAR1"
        return _of_parquet(file, wanted) if parquet else _of_csv(file, wanted)
    except UnicodeDecodeError as error:
        raise DataError(
            f"it is no text in UTF-8 ({error}); save it as CSV in UTF-8, or as Parquet"
        ) from error
    except (OSError, csv.Error, ValueError) as error:
        raise DataError(f"it cannot be read: {error}") from error


def _of_csv(file: Path, wanted: Collection[str]) -> Manifest:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        delimiter = _delimiter(lines.readline(), wanted)
        lines.seek(0)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        columns = tuple(name.strip() for name in next(reader, []))
        _refuse_twins(columns, wanted)
        records = [(number, record) for number, record in enumerate(reader, 2) if any(record)]
    torn = [number for number, record in records if len(record) != len(columns)]
    if torn:
        raise DataError(f"each row must have {len(columns)} cells, as the first has. Not so {rows_of(torn)}")
    places = {name: place for place, name in enumerate(columns) if name in wanted}
    return Manifest(
        columns,
        {name: [record[place].strip() for _, record in records] for name, place in places.items()},
        [number for number, _ in records],
    )


def _delimiter(header: str, wanted: Collection[str]) -> str:
    """The one by which the header has most of the wanted columns, and then most columns at all."""

    def rank(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        return len(set(names) & set(wanted)), len(names)

    return max(DELIMITERS, key=rank)


def _refuse_twins(columns: Sequence[str], wanted: Collection[str]) -> None:
    twins = [name for name in dict.fromkeys(columns) if name in wanted and columns.count(name) > 1]
    if twins:
        raise DataError(f"it has more than one column {some(twins)}")


def _of_parquet(file: Path, wanted: Collection[str]) -> Manifest:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        columns = tuple(table.schema_arrow.names)
        _refuse_twins(columns, wanted)
        found = table.read(columns=[name for name in columns if name in wanted])
    cells = {name: list(_texts(found.column(name).to_pylist())) for name in found.column_names}
    return Manifest(columns, cells, range(1, found.num_rows + 1))


def _texts(values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if value is None or value != value:  # NaN is not even itself
            yield ""
        elif isinstance(value, float) and value.is_integer():
            yield str(int(value))
        elif isinstance(value, bytes):
            yield value.decode().strip()
        else:
            yield str(value).strip()
