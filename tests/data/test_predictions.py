"""The table of predictions on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from histoflow.data import predictions
from histoflow.data.predictions import table_at

CLASSES = ("normal", "path")


def test_rows_are_written_in_groups_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "ROWS_IN_A_GROUP", 4)
    out = tmp_path / "table.parquet"
    with table_at(out, CLASSES, {"run": "r"}) as table:
        for index in range(5):
            table.add([f"{index}a", f"{index}b"], [None, None], np.array([[0.25, 0.75], [1, 0]]))
            table.add([f"{index}c"], ["it is empty"], np.empty((0, 2)))
    file = pq.ParquetFile(out)
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [5, 4, 5, 1]
    found = file.read().to_pylist()
    assert [row["path"] for row in found] == [f"{index}{letter}" for index in range(5) for letter in "abc"]
    assert found[0] == {
        "path": "0a", "predicted": "path", "confidence": 0.75, "p_normal": 0.25, "p_path": 0.75, "problem": None
    }  # fmt: skip
    assert found[2] == {
        "path": "0c", "predicted": None, "confidence": None, "p_normal": None, "p_path": None,
        "problem": "it is empty",
    }  # fmt: skip
    assert (table.rows, table.problems) == (15, 5)
    assert file.schema_arrow.metadata[b"histoflow.run"] == b"r"


def test_of_several_labels_all_likely_ones_are_named(tmp_path: Path) -> None:
    with table_at(tmp_path / "table.parquet", ("edema", "mass"), {}, several=True) as table:
        table.add(["a", "b", "c"], [None, None, "it is empty"], np.array([[0.75, 0.875], [0.25, 0.5]]))
    found = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["predicted"] for row in found] == ["edema;mass", "", None]
    assert [row["confidence"] for row in found] == [0.75, 0.5, None]
    assert [row["p_mass"] for row in found] == [0.875, 0.5, None]


def test_a_table_that_is_not_finished_leaves_nothing_and_the_former_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "table.parquet"
    out.write_text("the former one")
    with pytest.raises(KeyboardInterrupt), table_at(out, CLASSES, {}) as table:
        table.add(["a"], [None], np.array([[0.5, 0.5]]))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert out.read_text() == "the former one"


def test_the_name_of_a_file_need_not_be_text(tmp_path: Path) -> None:
    with table_at(tmp_path / "table.parquet", CLASSES, {}) as table:
        table.add(["tumor-\udcfc.png"], [None], np.array([[0.5, 0.5]]))
    (row,) = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert row["path"] == "tumor-\\xfc.png"
