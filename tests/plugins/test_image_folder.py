"""A folder of images of one's own: what is accepted, and what is refused with which words."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histoflow import DataError, Facts, Samples, UnreadableImage
from histoflow.progress import LogListener, listening
from histoflow_plugins.image_folder import IMAGE_FOLDER, ImageFolderParams
from permissions import permissions_hold


def plant(root: Path, *names: str) -> Path:
    """A small image at each of these paths below root, each of another shade."""
    for shade, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (shade, 100, 200)).save(path)
    return root


def opened(path: Path, **params: Any) -> Samples:
    chosen = ImageFolderParams(path=path, **params)
    return IMAGE_FOLDER.open(chosen, IMAGE_FOLDER.fetch(chosen, path / "unused"))


def table(samples: Samples) -> list[tuple[str, str, str | None]]:
    return [(row.source, samples.classes[row.label], row.split) for row in samples.rows]


def complaint(path: Path | None, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        IMAGE_FOLDER.fetch(ImageFolderParams(path=path, **params), Path("unused"))
    return str(caught.value)


class Heard(LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


# ── What is accepted ────────────────────────────────────────────────────────────────────────────


def test_one_folder_a_class(tmp_path: Path) -> None:
    plant(tmp_path, "tumour/b.png", "adipose/z.JPG", "tumour/a.tif", "tumour/c.webp", "adipose/y.Bmp")
    samples = opened(tmp_path)
    assert samples.classes == ("adipose", "tumour")
    assert table(samples) == [
        ("adipose/y.Bmp", "adipose", None),
        ("adipose/z.JPG", "adipose", None),
        ("tumour/a.tif", "tumour", None),
        ("tumour/b.png", "tumour", None),
        ("tumour/c.webp", "tumour", None),
    ]
    assert samples.read(3)[0, 0].tolist() == [0, 100, 200]


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_official_splits(tmp_path: Path, val: str) -> None:
    plant(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", val, "test") for name in ("a", "b")))
    assert sorted(table(opened(tmp_path))) == sorted(
        (f"{folder}/{name}/1.png", name, split)
        for folder, split in (("train", "train"), (val, "val"), ("test", "test"))
        for name in ("a", "b")
    )


def test_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    plant(tmp_path, "a/patient 1/1.png", "a/patient 1/slide 2/1.png", "b/1.png", "b/test/2.png")
    assert [name for _, name, _ in table(opened(tmp_path))] == ["a", "a", "b", "b"]


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere", "x/1.png")
    plant(tmp_path / "data", "b/1.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere" / "x")
    assert [source for source, _, _ in table(opened(tmp_path / "data"))] == ["a/1.png", "b/1.png"]


def test_links_to_folders_within_a_class_are_followed(tmp_path: Path) -> None:
    plant(tmp_path / "elsewhere", "x/1.png")
    plant(tmp_path / "data", "a/1.png", "b/1.png")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "elsewhere" / "x")
    assert [source for source, _, _ in table(opened(tmp_path / "data"))] == [
        "a/1.png",
        "a/more/1.png",
        "b/1.png",
    ]


def test_names_that_are_no_text_are_read_and_can_be_told(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / os.fsdecode(b"J\xfcrgen.png"))
    samples = opened(tmp_path)
    assert [row.source for row in samples.rows] == ["a/J\\xfcrgen.png", "b/1.png"]
    assert samples.read(0).shape == (4, 6, 3)


def test_other_processes_can_read_the_images(tmp_path: Path) -> None:
    samples = opened(plant(tmp_path, "a/1.png", "b/1.png"))
    assert samples.files == [tmp_path / "a/1.png", tmp_path / "b/1.png"]
    assert pickle.loads(pickle.dumps(samples.read))(1)[0, 0].tolist() == [1, 100, 200]


def test_relative_paths_start_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "data", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path)
    assert len(opened(Path("data")).rows) == 2


def test_other_files_are_counted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png", "loose.png", ".hidden/1.png", "a/.hidden.png", "__MACOSX/a/1.png")
    (tmp_path / "a" / "notes.txt").touch()
    heard = Heard()
    with listening(heard):
        assert len(opened(tmp_path).rows) == 2
    assert len(heard.lines) == 1
    assert "2 files are no images of a class and are left out: 'loose.png', 'a/notes.txt'" in heard.lines[0]


def test_a_damaged_image_is_told_when_it_is_read(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "1.png").write_bytes((tmp_path / "a" / "1.png").read_bytes()[:45])
    samples = opened(tmp_path)
    assert isinstance(samples.read(0), np.ndarray)
    with pytest.raises(UnreadableImage):
        samples.read(1)


# ── Facts ───────────────────────────────────────────────────────────────────────────────────────


def test_facts_of_a_folder(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    assert IMAGE_FOLDER.facts(ImageFolderParams(path=tmp_path)) == Facts(
        task="binary", classes=("a", "b"), channels=3, images=3, licence="unknown"
    )


def test_facts_of_an_official_split_of_three_classes(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "test") for name in "abc"))
    facts = IMAGE_FOLDER.facts(ImageFolderParams(path=tmp_path))
    assert (facts.task, facts.official_split, facts.images) == ("multiclass", True, 6)


def test_a_folder_that_is_not_here_may_be_where_the_run_will_be(tmp_path: Path) -> None:
    facts = IMAGE_FOLDER.facts(ImageFolderParams(path=tmp_path / "later"))
    assert (facts.task, facts.classes, facts.channels) == (None, None, 3)


def test_the_path_must_be_given() -> None:
    for step in (IMAGE_FOLDER.facts, lambda params: IMAGE_FOLDER.fetch(params, Path("unused"))):
        with pytest.raises(DataError, match="The 'path' parameter of data set 'image_folder' must name"):
            step(ImageFolderParams())


def test_every_field_is_explained() -> None:
    assert all(field["description"] for field in ImageFolderParams.model_json_schema()["properties"].values())


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────


def group_file(root: Path, *lines: str, name: str = "groups.csv", encoding: str = "utf-8") -> Path:
    path = root / name
    path.write_text("\n".join(lines), encoding=encoding)
    return path


@pytest.mark.parametrize(
    "lines",
    [
        ["path,group", "a/1.png,p1", "a/2.png,p2", "b/3.png,p1"],
        ["label,path,group", "a,./a/1.png,p1", "a,a\\2.png,p2", "b,b/3.png , p1"],
        ["filename,group", "1.png,p1", "2.png,p2", "3.png,p1", "not here.png,p9"],
        ["path;group;weight", "1.png;p1;1", "2.png;p2;1", "b/3.png;p1;1"],
        ["\ufefffile,group", "1.png,p1", "a/2.png,p2", "", "3.png,p1", "3.png,p1"],
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_groups_by_path_or_file_name(tmp_path: Path, lines: list[str], relative: bool) -> None:
    plant(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    file = group_file(tmp_path, *lines)
    heard = Heard()
    with listening(heard):
        samples = opened(tmp_path, groups=Path("groups.csv") if relative else file)
    assert [row.group for row in samples.rows] == ["p1", "p2", "p1"]
    assert IMAGE_FOLDER.facts(ImageFolderParams(path=tmp_path, groups=file)).groups
    assert heard.lines == []


def test_weights_stand_in_the_groups_file(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    file = group_file(tmp_path, "path,group,weight", "a/1.png,p,2.5", "2.png,q,", "3.png,r, 4e-1 ")
    assert [row.weight for row in opened(tmp_path, groups=file).rows] == [2.5, 1.0, 0.4]


def test_the_groups_file_is_one_that_the_data_depend_on(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/2.png")
    file = group_file(tmp_path, "path,group", "1.png,p", "2.png,q")
    files = IMAGE_FOLDER.fetch(ImageFolderParams(path=tmp_path, groups=file), tmp_path)
    assert files == [tmp_path / "a/1.png", tmp_path / "b/2.png", file]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["path|group", "a/1.png|p1"], "must have the columns 'path' and 'group'. Got 'path|group'"),
        ([], "must have the columns 'path' and 'group'. Got nothing"),
        (["path,group", "a/1.png,p"], "It gives none to 'a/2.png', 'b/1.png', and names 'a/1.png'"),
        (["path,group", "a/1.png,p", "2.png,q", "b/1.png,"], "It gives none to 'b/1.png'"),
        (["path,group", "a/1.png,p", "2.png"], "each row must have 2 cells, as the first has. Not so row 3"),
        (["path,group", "1.png,p", "2.png,q"], "It gives none to 'a/1.png', 'b/1.png'"),
        (["path,group", "a/1.png,p", "2.png,q", "b/1.png,r", "b/1.png,s"], "It gives several to 'b/1.png'"),
        (["path,group,weight", "a/1.png,p,0"], "the weight of 'a/1.png' must be a number above 0. Got '0'"),
        (
            ["path,group,weight", "a/1.png,p,big"],
            "the weight of 'a/1.png' must be a number above 0. Got 'big'",
        ),
        (
            ["path,group,weight", "a/1.png,p,1", "2.png,q,2", "b/1.png,r,1", "b/1.png,r,2"],
            "one group and one weight. It gives several to 'b/1.png'",
        ),
    ],
)
def test_a_groups_file_that_leaves_doubt_is_refused(tmp_path: Path, lines: list[str], expected: str) -> None:
    plant(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    assert expected in complaint(tmp_path, groups=group_file(tmp_path, *lines))


def test_a_groups_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    assert "No such file" in complaint(tmp_path, groups=Path("nowhere.csv"))
    latin = group_file(tmp_path, "path,group", "a/1.png,Jürgen", encoding="latin-1")
    assert "can't decode byte" in complaint(tmp_path, groups=latin)


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_a_missing_folder(tmp_path: Path) -> None:
    assert f"cannot use {tmp_path / 'nowhere'}:\n  there is no such folder." in complaint(
        tmp_path / "nowhere"
    )


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data.zip").touch()
    assert "no such folder (it is a file)" in complaint(tmp_path / "data.zip")


def test_no_class_folders(tmp_path: Path) -> None:
    plant(tmp_path, "1.png", "2.png")
    message = complaint(tmp_path)
    assert "there is no class folder." in message
    assert f"Lay images out as {tmp_path.name}/CLASS/IMAGE.png" in message


def test_splits_without_class_folders(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.png", "test/1.png")
    assert "there is no class folder in test, train" in complaint(tmp_path)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    group_file(tmp_path, "path,group")
    message = complaint(tmp_path, groups=Path("groups.csv"))
    assert "class 'b' has no images (.jpg, .jpeg, .png" in message
    assert "class 'c' has no images" in message
    assert "It gives none to 'a/1.png', and names no image" in message


def test_one_class_is_too_few(tmp_path: Path) -> None:
    assert "two classes or more. Got only 'a'" in complaint(plant(tmp_path, "a/1.png"))


def test_splits_that_do_not_agree(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/c/1.png", "extra/1.png")
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "test").mkdir()
    message = complaint(tmp_path)
    assert "beside test, train, val, valid there may be no other folder. Got 'extra'" in message
    assert "only one folder may hold the split val. Got val, valid" in message
    assert "'val' lacks 'b'" in message
    assert "'test' lacks 'a', 'b', 'c'" in message
    assert "class 'c' of train has no images" in message


def test_splits_without_train(tmp_path: Path) -> None:
    plant(tmp_path, "test/a/1.png", "test/b/1.png")
    assert "beside test there must be a folder train" in complaint(tmp_path)
    with pytest.raises(DataError):
        IMAGE_FOLDER.facts(ImageFolderParams(path=tmp_path))


def test_links_that_lead_round_in_a_circle(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "b" / "itself").symlink_to(tmp_path / "b" / "itself")
    message = complaint(tmp_path)
    assert "'a/again' is the same folder as '.': take the link away" in message
    assert "'b/itself' is a link that leads nowhere: take it away" in message


def test_a_folder_that_stands_for_two_classes(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert "'c' is the same folder as 'a': take the link away" in complaint(tmp_path)


def test_what_is_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    assert "'a/2.png' is neither a file nor a folder: take it away" in complaint(tmp_path)


def test_folders_that_cannot_be_listed_are_told_together(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    for name in ("a", "b"):
        (tmp_path / name).chmod(0)
    with permissions_hold():
        message = complaint(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).chmod(0o755)
    assert "'a' cannot be listed (Permission denied): make it readable" in message
    assert "'b' cannot be listed (Permission denied): make it readable" in message


def test_long_lists_are_cut(tmp_path: Path) -> None:
    plant(tmp_path, *(f"train/{name}/1.png" for name in "abcdefgh"), "test/a/1.png")
    assert "'test' lacks 'b', 'c', 'd', 'e', 'f' and 2 more" in complaint(tmp_path)
