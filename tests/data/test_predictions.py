"""The table of predictions on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from histoflow.data import predictions
from histoflow.data.predictions import Answers, refuse_taken, table_at
from histoflow.errors import UserError

CLASSES = ("normal", "path")
NONE = Answers(probabilities=np.empty((0, 2)), told=np.empty(0, np.int64), confidence=np.empty(0))


def answers(*rows: tuple[float, float], sets: Any = None) -> Answers:
    probabilities = np.array(rows)
    return Answers(
        probabilities=probabilities,
        told=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
        sets=None if sets is None else np.array(sets, bool),
    )


def test_rows_are_written_in_groups_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "ROWS_IN_A_GROUP", 4)
    out = tmp_path / "table.parquet"
    with table_at(out, CLASSES, {"run": "r"}) as table:
        for index in range(5):
            table.add([f"{index}a", f"{index}b"], [None, None], answers((0.25, 0.75), (1, 0)))
            table.add([f"{index}c"], ["it is empty"], NONE)
    file = pq.ParquetFile(out)
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [5, 4, 5, 1]
    found = file.read().to_pylist()
    assert [row["path"] for row in found] == [f"{index}{letter}" for index in range(5) for letter in "abc"]
    assert found[0] == {
        "path": "0a", "predicted": "path", "confidence": 0.75, "p_normal": 0.25, "p_path": 0.75, "set": None,
        "abstains": None, "problem": None,
    }  # fmt: skip
    assert found[2] == {
        "path": "0c", "predicted": None, "confidence": None, "p_normal": None, "p_path": None, "set": None,
        "abstains": None, "problem": "it is empty",
    }  # fmt: skip
    assert (table.rows, table.problems) == (15, 5)
    assert file.schema_arrow.metadata[b"histoflow.run"] == b"r"


def written(out: Path) -> None:
    """Three rows in two pieces, with a column of a list."""
    with table_at(out, CLASSES, {}, ["case"]) as table:
        said = answers((0.1, 0.9), (0.5, 0.5), sets=[[0, 1], [1, 1]])
        table.add(["a", 'b,"c"'], [None, None], said, pa.table({"case": ["007", None]}))
        table.flush()
        table.add(["d"], ["it is empty"], NONE, pa.table({"case": ["x\ny"]}))


EXPECTED: list[dict[str, Any]] = [
    {
        "path": "a", "case": "007", "predicted": "path", "confidence": 0.9, "p_normal": 0.1, "p_path": 0.9,
        "set": ["path"], "abstains": False, "problem": None,
    },
    {
        "path": 'b,"c"', "case": None, "predicted": "normal", "confidence": 0.5, "p_normal": 0.5,
        "p_path": 0.5, "set": ["normal", "path"], "abstains": True, "problem": None,
    },
    {
        "path": "d", "case": "x\ny", "predicted": None, "confidence": None, "p_normal": None, "p_path": None,
        "set": None, "abstains": None, "problem": "it is empty",
    },
]  # fmt: skip


def test_json_holds_the_rows_as_an_array_or_as_lines(tmp_path: Path) -> None:
    written(tmp_path / "table.json")
    assert json.loads((tmp_path / "table.json").read_text()) == EXPECTED
    written(tmp_path / "table.jsonl")
    lines = (tmp_path / "table.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == EXPECTED


def test_a_table_without_rows_is_json_all_the_same(tmp_path: Path) -> None:
    with table_at(tmp_path / "table.json", CLASSES, {}):
        pass
    assert json.loads((tmp_path / "table.json").read_text()) == []


def test_csv_holds_the_same_as_text(tmp_path: Path) -> None:
    written(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(row) for row in EXPECTED]
    assert rows[1] == {
        "path": 'b,"c"', "case": "", "predicted": "normal", "confidence": "0.5", "p_normal": "0.5",
        "p_path": "0.5", "set": "normal | path", "abstains": "true", "problem": "",
    }  # fmt: skip
    assert (rows[2]["case"], rows[2]["set"], rows[2]["problem"]) == ("x\ny", "", "it is empty")


def test_a_list_may_not_bring_columns_of_the_tables_own(tmp_path: Path) -> None:
    refuse_taken(["label", "case"], CLASSES)
    with pytest.raises(UserError, match=r"confidence, p_normal, p_path.*Got p_path, set\. Rename"):
        refuse_taken(["label", "p_path", "set"], CLASSES)


def test_of_several_labels_all_that_are_told_are_named(tmp_path: Path) -> None:
    told = Answers(
        probabilities=np.array([[0.75, 0.875], [0.25, 0.5]]),
        told=np.array([[1, 1], [0, 0]]),
        confidence=np.array([0.75, 0.5]),
        sets=np.array([[True, True], [False, True]]),
    )
    with table_at(tmp_path / "table.parquet", ("edema", "mass"), {}) as table:
        table.add(["a", "b", "c"], [None, None, "it is empty"], told)
    found = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["predicted"] for row in found] == ["edema;mass", "", None]
    assert [row["confidence"] for row in found] == [0.75, 0.5, None]
    assert [row["p_mass"] for row in found] == [0.875, 0.5, None]
    assert [row["set"] for row in found] == [["edema", "mass"], ["mass"], None]
    assert [row["abstains"] for row in found] == [None, None, None]


def test_a_table_that_is_not_finished_leaves_nothing_and_the_former_one_whole(tmp_path: Path) -> None:
    for out in (tmp_path / "table.parquet", tmp_path / "table.csv", tmp_path / "table.json"):
        out.write_text("the former one")
        with pytest.raises(KeyboardInterrupt), table_at(out, CLASSES, {}) as table:
            table.add(["a"], [None], answers((0.5, 0.5)))
            raise KeyboardInterrupt
        assert out.read_text() == "the former one"
    assert len(list(tmp_path.iterdir())) == 3


def test_the_name_of_a_file_need_not_be_text(tmp_path: Path) -> None:
    with table_at(tmp_path / "table.parquet", CLASSES, {}) as table:
        table.add(["tumor-\udcfc.png"], [None], answers((0.5, 0.5)))
    (row,) = pq.read_table(tmp_path / "table.parquet").to_pylist()
    assert row["path"] == "tumor-\\xfc.png"
