"""The table of predictions: Parquet, CSV or JSON by the file's suffix, written piece by piece.

    path         the image, as it was found; in a list of images, as that names it
    …            the other columns of a list, as text
    predicted    the class that is told; where an image may show several, all that are told, joined by ';', in
                 the order of the classes: none gives an empty text
    confidence   its probability; of several, that of the answer (shown or not) which is least sure
    p_<class>    the probability of each class
    set          the prediction set: a list of classes, in CSV joined by ' | '; null where none was fitted
    abstains     whether the set holds another number of classes than one; null where there is none, and
                 where an image may show several classes
    problem      why there is no prediction; null where there is one

Where there is a problem, all but the path and the columns of the list is null. The metadata of a Parquet file
tell of which run and model it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from histoflow import files
from histoflow.errors import UserError

ROWS_IN_A_GROUP = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What is said of some images, one row each."""

    probabilities: NDArray[np.float64]
    """Images × classes."""
    told: NDArray[np.int64]
    """The number of each image's class; where it may show several, images × classes of 0 and 1."""
    confidence: NDArray[np.float64]
    sets: NDArray[np.bool_] | None = None
    """Images × classes; None where no sets were fitted."""


class PredictionTable:
    """Takes rows as they come, and writes them once there are enough."""

    def __init__(self, sink: Sink, schema: pa.Schema, classes: Sequence[str]) -> None:
        self._sink, self._schema, self._classes = sink, schema, np.asarray(classes, object)
        self._waiting: list[pa.Table] = []
        self.rows = self.problems = 0

    def add(
        self,
        paths: Sequence[str],
        problems: Sequence[str | None],
        answers: Answers,
        carried: pa.Table | None = None,
    ) -> None:
        """One row per path; ``answers`` to those without a problem; ``carried`` columns of every path."""
        answered = np.array([problem is None for problem in problems])
        place = np.cumsum(answered) - 1
        row = pa.array(place, mask=~answered)  # taken at null, a value is null
        columns = [
            pa.array([as_text(path) for path in paths], pa.string()),
            *(carried.columns if carried is not None else ()),
            *(column.take(row) for column in self._told(answers)),
            pa.array(problems, pa.string()),
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._schema))
        self.rows += len(paths)
        self.problems += int((~answered).sum())
        if sum(len(table) for table in self._waiting) >= ROWS_IN_A_GROUP:
            self.flush()

    def _told(self, answers: Answers) -> list[pa.Array]:
        several = answers.told.ndim == 2
        named = self._shown(answers.told) if several else self._classes[answers.told]
        figures = (answers.confidence, *answers.probabilities.T)
        return [
            pa.array(named, pa.string()),
            *(pa.array(values, pa.float32()) for values in figures),
            *self._sets(answers.sets, len(answers.told), several),
        ]

    def _shown(self, told: NDArray[np.int64]) -> list[str]:
        return [";".join(self._classes[shown]) for shown in told.astype(bool)]

    def _sets(self, sets: NDArray[np.bool_] | None, count: int, several: bool) -> tuple[pa.Array, pa.Array]:
        none = pa.nulls(count, pa.bool_())
        if sets is None:
            return pa.nulls(count, pa.list_(pa.string())), none
        names = pa.array([self._classes[held].tolist() for held in sets], pa.list_(pa.string()))
        return names, none if several else pa.array(sets.sum(axis=1) != 1, pa.bool_())

    def flush(self) -> None:
        if self._waiting:
            self._sink.write(pa.concat_tables(self._waiting))
            self._waiting.clear()


@contextmanager
def table_at(
    path: Path, classes: Sequence[str], told: Mapping[str, str], carried: Sequence[str] = ()
) -> Iterator[PredictionTable]:
    """A table that stands at ``path`` once the block has ended without error, and not before.

    What is ``told`` goes into a Parquet file's metadata.
    """
    schema = _schema(classes, told, carried)
    # Written through a file of Python's, which tells a full disk as an OSError with its number.
    with (
        files.atomic_file(path) as temporary,
        temporary.open("wb") as file,
        sink_of(path)(file, schema) as sink,
    ):
        table = PredictionTable(sink, schema, classes)
        yield table
        table.flush()


def refuse_taken(columns: Sequence[str], classes: Sequence[str]) -> None:
    """Columns of a list must not have the names of the table's own."""
    own = set(_schema(classes, {}, ()).names)
    if taken := [name for name in columns if name in own]:
        raise UserError(
            f"The other columns of a list are copied into the table, and may not have the names of its own "
            f"({', '.join(_schema(classes, {}, ()).names)}). Got {', '.join(taken)}. "
            f"Rename them in the list, or leave them out."
        )


def _schema(classes: Sequence[str], told: Mapping[str, str], carried: Sequence[str]) -> pa.Schema:
    figures = [(name, pa.float32()) for name in ("confidence", *(f"p_{name}" for name in classes))]
    columns = [
        *((name, pa.string()) for name in ("path", *carried, "predicted")),
        *figures,
        ("set", pa.list_(pa.string())),
        ("abstains", pa.bool_()),
        ("problem", pa.string()),
    ]
    return pa.schema(columns, metadata={f"histoflow.{key}": value for key, value in told.items()})


def as_text(path: str) -> str:
    """The name of a file need not be text; bytes that are none are told by their number."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# ── The kinds of files ──────────────────────────────────────────────────────────────────────────


class Sink(Protocol):
    def write(self, table: pa.Table) -> None: ...


@contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Sink]:
    with pq.ParquetWriter(file, schema) as writer:
        yield writer


@contextmanager
def _csv(file: BinaryIO, schema: pa.Schema) -> Iterator[Sink]:
    flat = schema.set(schema.get_field_index("set"), pa.field("set", pa.string()))
    with pcsv.CSVWriter(file, flat) as writer:
        yield _Flat(writer, flat)


@dataclass(frozen=True)
class _Flat:
    writer: pcsv.CSVWriter
    schema: pa.Schema

    def write(self, table: pa.Table) -> None:
        sets = table["set"].to_pylist()
        joined = pa.array([None if held is None else " | ".join(held) for held in sets], pa.string())
        place = table.schema.get_field_index("set")
        self.writer.write(table.set_column(place, self.schema.field("set"), joined).cast(self.schema))


@contextmanager
def _json_lines(file: BinaryIO, schema: pa.Schema) -> Iterator[Sink]:
    yield _Json(file, after="\n")


@contextmanager
def _json_array(file: BinaryIO, schema: pa.Schema) -> Iterator[Sink]:
    file.write(b"[")
    yield _Json(file, before="\n", between=",")
    file.write(b"\n]\n")


@dataclass
class _Json:
    file: BinaryIO
    before: str = ""
    after: str = ""
    between: str = ""
    begun: bool = False

    def write(self, table: pa.Table) -> None:
        for row in _plain(table).to_pylist():
            between = self.between if self.begun else ""
            self.file.write(f"{between}{self.before}{json.dumps(row, allow_nan=False)}{self.after}".encode())
            self.begun = True


def _plain(table: pa.Table) -> pa.Table:
    """With the shortest figures that mean the same: 0.1, not 0.10000000149."""
    columns = [
        column.cast(pa.string()).cast(pa.float64()) if pa.types.is_float32(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


SUFFIXES: Mapping[str, Callable[[BinaryIO, pa.Schema], AbstractContextManager[Sink]]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".json": _json_array,
    ".jsonl": _json_lines,
}


def sink_of(path: Path) -> Callable[[BinaryIO, pa.Schema], AbstractContextManager[Sink]]:
    """What writes files of this suffix."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"The file for the predictions must end with one of {', '.join(SUFFIXES)}. "
            f"Got {path.name}. Name it so that the suffix tells its kind, such as predictions.parquet."
        )
    return SUFFIXES[suffix]
