"""A table that names images: what is accepted, and what is refused with which words."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from pydantic import ValidationError

from histoflow import DataError, Facts, Row, Samples
from histoflow.progress import LogListener, listening
from histoflow.testing import check_component
from histoflow_plugins.table import TABLE, TableParams


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images: ``1.png`` and ``2.png`` at the top, ``3.png`` and ``4.png`` in ``in``."""
    (tmp_path / "in").mkdir()
    for shade, name in enumerate(("1.png", "2.png", "in/3.png", "in/4.png")):
        Image.new("RGB", (6, 4), (shade, 100, 200)).save(tmp_path / name)
    return tmp_path


def csv(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(lines), encoding=encoding)
    return path


def opened(path: Path, **params: Any) -> Samples:
    chosen = TableParams(path=path, **params)
    return TABLE.open(chosen, TABLE.fetch(chosen, path.parent / "unused"))


def complaint(path: Path | None, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        TABLE.fetch(TableParams(path=path, **params), Path("unused"))
    return str(caught.value)


def labels(samples: Samples) -> list[str]:
    return [samples.classes[row.label] for row in samples.rows if isinstance(row.label, int)]


# ── What is accepted ────────────────────────────────────────────────────────────────────────────


def test_images_and_labels(folder: Path) -> None:
    path = csv(folder, "path,label", "in/3.png,tumour", "1.png,stroma")
    samples = opened(path)
    assert samples.classes == ("stroma", "tumour")
    assert samples.rows == [Row(label=1, source="in/3.png"), Row(label=0, source="1.png")]
    assert samples.files == [folder / "in/3.png", folder / "1.png"]
    assert pickle.loads(pickle.dumps(samples.read))(0)[0, 0].tolist() == [2, 100, 200]
    assert TABLE.fetch(TableParams(path=path), folder) == [path, folder / "in/3.png", folder / "1.png"]


def test_groups_splits_and_weights_are_used_where_they_are(folder: Path) -> None:
    path = csv(folder, "weight,split,group,label,path", "2,train,p,a,1.png", ",Valid,q,b,2.png")
    assert opened(path).rows == [Row(0, "1.png", "train", "p", 2.0), Row(1, "2.png", "val", "q", 1.0)]
    assert opened(path, group=None, split=None, weight=None).rows == [Row(0, "1.png"), Row(1, "2.png")]


def test_columns_under_names_of_ones_own(folder: Path) -> None:
    path = csv(folder, "id;Class;Patient;fold;draw", "1;a;p;train;2", "2;b;q;test;1")
    samples = opened(
        path, image="id", suffix=".png", label="Class", group="Patient", split="fold", weight="draw"
    )
    assert samples.rows == [Row(0, "1.png", "train", "p", 2.0), Row(1, "2.png", "test", "q", 1.0)]


def test_which_columns_are_used_is_told(folder: Path) -> None:
    class Heard(LogListener):
        lines: tuple[str, ...] = ()

        def say(self, message: str) -> None:
            self.lines += (message,)

    heard = Heard()
    with listening(heard):
        opened(csv(folder, "path,label,group", "1.png,a,p", "2.png,b,q"))
    assert heard.lines == (
        f"{folder / 'table.csv'}: 2 images. "
        "Groups by column 'group', splits are not given, weights are not given.",
    )


@pytest.mark.parametrize(
    ("lines", "encoding"),
    [
        (("path,label", "1.png,a", "2.png,b"), "utf-8-sig"),
        (("path;label;note", "1.png;a;1,5", "", "2.png;b;x"), "utf-8"),
        (("label\tpath", "a\t1.png", "b\t2.png "), "utf-8"),
        (('"path","label"', '"1.png","a"', './2.png,"b"'), "utf-8"),
    ],
)
def test_the_ways_of_writing_a_csv(folder: Path, lines: tuple[str, ...], encoding: str) -> None:
    samples = opened(csv(folder, *lines, encoding=encoding))
    assert [(row.source, samples.classes[row.label]) for row in samples.rows] == [  # type: ignore[index]
        ("1.png", "a"),
        ("2.png", "b"),
    ]


def test_backslashes_of_windows(folder: Path) -> None:
    assert opened(csv(folder, "path,label", "in\\3.png,a", "in\\4.png,b")).rows[1].source == "in/4.png"


def written(folder: Path, columns: Mapping[str, Any]) -> Path:
    path = folder / "table.pq"
    parquet.write_table(pa.table(dict(columns)), path)
    return path


def test_parquet_with_numbers_for_labels_and_groups(folder: Path) -> None:
    path = written(
        folder,
        {
            "path": ["1.png", "2.png", "in/3.png"],
            "label": [10, 9, 10],
            "group": [1.0, 2.0, 2.5],
            "weight": [0.5, None, 2.0],
            "embedding": [[1.0], [2.0], [3.0]],
        },
    )
    assert opened(path).classes == ("9", "10")
    assert opened(path).rows == [
        Row(1, "1.png", group="1", weight=0.5),
        Row(0, "2.png", group="2"),
        Row(1, "in/3.png", group="2.5", weight=2.0),
    ]


def test_several_labels_an_image(folder: Path) -> None:
    path = csv(folder, "path,fat,mucus,split", "1.png,0,1,train", "2.png,1.0,TRUE,test", "in/3.png,0,0,train")
    samples = opened(path, labels=("mucus", "fat"))
    assert (samples.task, samples.classes) == ("multilabel", ("mucus", "fat"))
    assert [row.label for row in samples.rows] == [(0,), (0, 1), ()]
    assert TABLE.facts(TableParams(path=path, labels=("mucus", "fat"))).task == "multilabel"


def test_classes_may_be_given_in_their_order(folder: Path) -> None:
    path = csv(folder, "path,label", "1.png,high", "2.png,low")
    samples = opened(path, classes=("low", "middle", "high"))
    assert samples.classes == ("low", "middle", "high")
    assert [row.label for row in samples.rows] == [2, 0]


def test_paths_start_from_the_root(folder: Path) -> None:
    path = csv(folder, "path,label", "3.png,a", f"{folder}/in/4.png,b")
    for root in (folder / "in", Path("in")):
        assert [row.source for row in opened(path, root=root).rows] == ["3.png", "4.png"]


def test_facts(folder: Path) -> None:
    path = csv(folder, "path,label,group,split", "1.png,a,p,train", "2.png,b,q,test")
    assert TABLE.facts(TableParams(path=path)) == Facts(
        task="binary",
        classes=("a", "b"),
        channels=3,
        images=2,
        official_split=True,
        groups=True,
        licence="unknown",
    )
    assert TABLE.facts(TableParams(path=folder / "later.csv")) == Facts(channels=3)


def test_it_keeps_the_contract(folder: Path) -> None:
    path = csv(folder, "path,label,group,split", "1.png,a,p,train", "2.png,b,q,test", "in/3.png,b,q,train")
    check_component(TABLE, TableParams(path=path))


def test_every_field_is_explained() -> None:
    assert all(field["description"] for field in TableParams.model_json_schema()["properties"].values())


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_all_mistakes_at_once_each_with_its_rows(folder: Path) -> None:
    path = csv(
        folder,
        "path,label,group,split,weight",
        "1.png,a,g,train,1",
        "1.png,b,g,tset,-1",
        "",
        "../x.png,a,,val,x",
        "/etc/passwd,,g,test,",
        "9.png,b,g,test,inf",
        "in/3,c,g,train,2",
        "2.png,c,g,train,2",
        "./2.png,c,g,train,2",
        ",c,g,train,2",
    )
    assert complaint(path, classes=("a", "b")).splitlines() == [
        f"Data set 'table' cannot use {path}:",
        "  column 'path' must be filled in each row. Empty: row 11.",
        "  column 'label' must be filled in each row. Empty: row 6.",
        "  column 'group' must be filled in each row. Empty: row 5; or set group: null.",
        "  labels must be of the classes a, b. Got row 8 ('c'), row 9 ('c'), row 10 ('c'), row 11 ('c').",
        "  column 'split' must hold train, val, valid, validation, test. Got row 3 ('tset'); or set split: null.",
        "  column 'weight' must hold numbers above 0. Got row 3 ('-1'), row 5 ('x'), row 7 ('inf'); "
        "or set weight: null.",
        "  an image must have one row. With different labels stand '1.png' (rows 2, 3).",
        "  an image must have one row; to have it drawn more often, give it a weight. "
        "Several have '2.png' (rows 9, 10).",
        f"  images must lie in {folder}. Not so row 5 ('../x.png'), row 6 ('/etc/passwd'); "
        "where that is meant, set outside: true.",
        "  there is no file for row 7 ('9.png'), row 8 ('in/3').",
        "Correct the table, or the parameters that name its columns and its root.",
    ]


@pytest.mark.parametrize(
    ("lines", "params", "expected"),
    [
        (
            ("file,class", "1.png,a"),
            {"group": "patient"},
            "it must have the columns 'path', 'label', 'patient'. It has 'file', 'class'.",
        ),
        (("path,label",), {}, "it has no rows below the names of its columns."),
        ((), {}, "It has none"),
        (("path,label", "1.png,a", "2.png,a"), {}, "there must be two classes or more. Got 'a'."),
        (("path,label", "1,a", "2,b"), {}, "row 2 ('1'), row 3 ('2'); there is '1.png': set suffix: .png"),
        (("path,label", "1.png,a", "i\0n/2.png,b"), {}, "there is no file for row 3 ("),
        (("path,label", "in,a", "2.png,b"), {}, "there is no file for row 2 ('in')."),
        (
            ("path,label", "1.png,a", "2.png"),
            {},
            "each row must have 2 cells, as the first has. Not so row 3",
        ),
        (("path,label,path", "1.png,a,x"), {}, "it has more than one column 'path'."),
        (
            ("path,label,split", "1.png,a,val", "2.png,b,test"),
            {},
            "column 'split' must have train in some rows. Got none; or set split: null.",
        ),
        (
            ("path,a,b", "1.png,0,2", "2.png,,1"),
            {"labels": ("a", "b")},
            "column 'b' of labels must hold 0 or 1. Got row 2 ('2').",
        ),
        (("path,label", '"1.png,a'), {}, "it cannot be read: "),
    ],
)
def test_tables_that_leave_doubt(
    folder: Path, lines: tuple[str, ...], params: dict[str, Any], expected: str
) -> None:
    assert expected in complaint(csv(folder, *lines), **params)


def test_a_link_that_leaves_the_root(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    Image.new("RGB", (6, 4)).save(elsewhere / "5.png")
    (folder / "link.png").symlink_to(elsewhere / "5.png")
    (folder / "over").symlink_to(elsewhere)
    (folder / "stays.png").symlink_to(folder / "1.png")
    path = csv(folder, "path,label", "link.png,a", "over/5.png,b", "stays.png,a", "in/../2.png,b")
    assert "Not so row 2 ('link.png'), row 3 ('over/5.png'); where" in complaint(path)
    assert len(opened(path, outside=True).rows) == 4


def test_long_lists_are_cut(folder: Path) -> None:
    path = csv(folder, "path,label", *(f"x{index}.png,a" for index in range(2000)))
    assert "no file for row 2 ('x0.png'), row 3 ('x1.png'), row 4 ('x2.png'), row 5 ('x3.png'), row 6 ('x4.png') and 1,995 more" in complaint(path)  # fmt: skip


def test_files_that_are_no_table(folder: Path) -> None:
    assert "No such file" in complaint(folder / "nowhere.csv")
    assert "Is a directory" in complaint(folder)
    latin = csv(folder, "path,label", "1.png,Müller", encoding="latin-1")
    assert "it is no text in UTF-8" in complaint(latin)
    assert "save it as CSV in UTF-8" in complaint(folder / "1.png")
    torn = written(folder, {"path": ["1.png"], "label": ["a"]})
    os.truncate(torn, 60)
    assert "it cannot be read: " in complaint(torn)
    no_root = csv(folder, "path,label", "1.png,a", "2.png,b")
    assert "its paths start from /nowhere, which is no folder" in complaint(no_root, root=Path("/nowhere"))


def test_the_path_must_be_given() -> None:
    assert complaint(None).startswith("The 'path' parameter of data set 'table' must name a CSV")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"labels": ("a", "b"), "label": "c"}, "only one may be set"),
        ({"labels": ("a", "b"), "classes": ("c", "d")}, "only one may be set"),
        ({"labels": ("a",)}, "must name two columns or more"),
        ({"labels": ("a", "a")}, "each once"),
        ({"classes": ("a", "b", "a")}, "must name each class once. Got a more than once"),
    ],
)
def test_labels_are_told_in_one_way(params: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        TableParams(**params)
