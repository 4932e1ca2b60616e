"""The table of predictions: a Parquet file that is written row group by row group.

    path         the image, as it was found
    predicted    the class with the highest probability; where an image may show several, all those above
                 0.5, joined by ';', in the order of the classes: none gives an empty text
    confidence   that probability; of several, that of the answer (shown or not) which is least sure
    p_<class>    the probability of each class
    problem      why there is no prediction; null where there is one

Where there is a problem, all but the path is null. The file's metadata tell of which run and model it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from histoflow import files

ROWS_IN_A_GROUP = 65_536
_SHOWN_ABOVE = 0.5
_Told = tuple[NDArray[np.object_], NDArray[np.float64]]
"""The class or classes of each image, and how sure that is."""


class PredictionTable:
    """Takes rows as they come, and writes them once there are enough."""

    def __init__(self, writer: pq.ParquetWriter, classes: Sequence[str], *, several: bool) -> None:
        self._writer, self._classes = writer, np.asarray(classes, object)
        self._told = self._all_likely if several else self._likeliest
        self._waiting: list[pa.Table] = []
        self.rows = self.problems = 0

    def add(
        self, paths: Sequence[str], problems: Sequence[str | None], probabilities: NDArray[np.float64]
    ) -> None:
        """One row per path; of ``probabilities`` one per path without a problem."""
        missing = np.array([problem is not None for problem in problems])
        every = np.zeros((len(paths), len(self._classes)))
        every[~missing] = probabilities
        predicted, confidence = self._told(every)
        columns = [
            pa.array([_as_text(path) for path in paths], pa.string()),
            pa.array(predicted, pa.string(), mask=missing),
            *(pa.array(values, pa.float32(), mask=missing) for values in (confidence, *every.T)),
            pa.array(problems, pa.string()),
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._writer.schema))
        self.rows += len(paths)
        self.problems += int(missing.sum())
        if sum(len(table) for table in self._waiting) >= ROWS_IN_A_GROUP:
            self.flush()

    def _likeliest(self, probabilities: NDArray[np.float64]) -> _Told:
        return self._classes[probabilities.argmax(axis=1)], probabilities.max(axis=1)

    def _all_likely(self, probabilities: NDArray[np.float64]) -> _Told:
        names = [";".join(self._classes[shown]) for shown in probabilities > _SHOWN_ABOVE]
        sure = np.maximum(probabilities, 1 - probabilities)
        return np.array(names, object), sure.min(axis=1)

    def flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()


@contextmanager
def table_at(
    path: Path, classes: Sequence[str], told: Mapping[str, str], *, several: bool = False
) -> Iterator[PredictionTable]:
    """A table that stands at ``path`` once the block has ended without error, and not before.

    What is ``told`` goes into the file's metadata. Each image may show ``several`` of the classes, or none.
    """
    # Written through a file of Python's, which tells a full disk as an OSError with its number.
    with (
        files.atomic_file(path) as temporary,
        temporary.open("wb") as file,
        pq.ParquetWriter(file, _schema(classes, told)) as writer,
    ):
        table = PredictionTable(writer, classes, several=several)
        yield table
        table.flush()


def _schema(classes: Sequence[str], told: Mapping[str, str]) -> pa.Schema:
    figures = [(name, pa.float32()) for name in ("confidence", *(f"p_{name}" for name in classes))]
    columns = [("path", pa.string()), ("predicted", pa.string()), *figures, ("problem", pa.string())]
    return pa.schema(columns, metadata={f"histoflow.{key}": value for key, value in told.items()})


def _as_text(path: str) -> str:
    """The name of a file need not be text; bytes that are none are told by their number."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
