"""Lists of images."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from histoflow.data import listed
from histoflow.errors import DataError


def written(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_other_columns_are_passed_on_as_text(tmp_path: Path) -> None:
    found = listed.read(written(tmp_path, '\ufeffcase,path,note\n007,a.png,"one, two"\n,b.png,\n'))
    assert found.folder == tmp_path
    assert found.paths == ["a.png", "b.png"]
    assert found.carried is not None
    assert found.carried.to_pydict() == {"case": ["007", ""], "note": ["one, two", ""]}


def test_blank_lines_change_nothing(tmp_path: Path) -> None:
    found = listed.read(written(tmp_path, "\n\r\npath,case\na.png,007\n\nb.png,008\n"))
    assert found.paths == ["a.png", "b.png"]
    assert found.carried is not None
    assert found.carried.to_pydict() == {"case": ["007", "008"]}


def test_a_list_may_be_of_paths_alone_or_a_parquet_file(tmp_path: Path) -> None:
    assert listed.read(written(tmp_path, "path\na.png\n")).carried is None
    table = pa.table({"path": ["a", None], "label": [3, None], "day": [date(2020, 1, 2)] * 2})
    pq.write_table(table, tmp_path / "list.parquet")
    found = listed.read(tmp_path / "list.parquet")
    assert found.paths == ["a", None]
    assert found.carried is not None
    assert found.carried.to_pydict() == {"label": ["3", None], "day": ["2020-01-02"] * 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file;label\na.png;1\n", r"must have a column 'path'.*Got file;label\..*parted by commas"),
        ("path,label,label\na.png,1,1\n", "name of its own. Got label more than once"),
        ("path\n", "must name at least one image. Got none"),
        ("path,label\na.png\n", "cannot be read: .*Expected 2 columns"),
        ("", "cannot be read"),
    ],
)
def test_what_is_no_list_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed.read(written(tmp_path, text))


def test_files_that_are_not_what_their_suffix_says_are_told(tmp_path: Path) -> None:
    (tmp_path / "list.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be read"):
        listed.read(tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_bytes(b"path\nf\xff.png\n")
    with pytest.raises(DataError, match="cannot be read"):
        listed.read(tmp_path / "list.csv")
    pq.write_table(pa.table({"path": ["a"], "boxes": [[1, 2]]}), tmp_path / "list.parquet")
    with pytest.raises(DataError, match=r"Column 'boxes'.*Got list"):
        listed.read(tmp_path / "list.parquet")
