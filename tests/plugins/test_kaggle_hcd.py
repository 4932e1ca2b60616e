"""Kaggle's Histopathologic Cancer Detection, as a folder of the real format."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histoflow import DataError, Facts, Samples, UnreadableImage, stages
from histoflow.data.store import PackedStore
from histoflow.experiment import load
from histoflow.progress import LogListener, listening
from histoflow.testing import check_component
from histoflow_plugins import kaggle_hcd
from histoflow_plugins.kaggle_hcd import KAGGLE_HCD, KaggleHcdParams

PLAIN = {"black": 3, "white": 252}


def ids(count: int) -> list[str]:
    return [f"{number:040x}" for number in range(count)]


def tiff(path: Path, image: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def table(folder: Path, file: str, columns: str, rows: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("\n".join([columns, *(f"{name},{value}" for name, value in rows.items()), ""]))
    return folder / file


def competition(folder: Path, count: int = 6) -> Path:
    chance = np.random.default_rng(0)
    for name in ids(count):
        tiff(folder / "train" / f"{name}.tif", chance.integers(0, 256, (96, 96, 3), np.uint8))
    tiff(folder / "test" / f"{'f' * 40}.tif", np.zeros((96, 96, 3), np.uint8))
    table(folder, "train_labels.csv", "id,label", {name: index % 2 for index, name in enumerate(ids(count))})
    return folder


def opened(path: Path, **params: Any) -> Samples:
    chosen = KaggleHcdParams(path=path, **params)
    return KAGGLE_HCD.open(chosen, KAGGLE_HCD.fetch(chosen, path / "unused"))


def complaint(path: Path | None, **params: Any) -> str:
    with pytest.raises(DataError) as caught:
        KAGGLE_HCD.fetch(KaggleHcdParams(path=path, **params), Path("unused"))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return competition(tmp_path / "hcd")


class Heard(LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def said() -> Iterator[list[str]]:
    heard = Heard()
    with listening(heard):
        yield heard.lines


# ── What is accepted ────────────────────────────────────────────────────────────────────────────


def test_facts() -> None:
    facts = KAGGLE_HCD.facts(KaggleHcdParams())
    assert facts == Facts(
        task="binary",
        classes=("normal", "tumour"),
        channels=3,
        size=(96, 96),
        licence=facts.licence,
        citation=kaggle_hcd.CITATION,
    )


def test_facts_ask_whether_a_folder_that_is_there_has_the_files(tmp_path: Path) -> None:
    assert KAGGLE_HCD.facts(KaggleHcdParams(path=tmp_path / "elsewhere")).size == (96, 96)
    with pytest.raises(DataError, match=r"lacks train_labels\.csv and train"):
        KAGGLE_HCD.facts(KaggleHcdParams(path=tmp_path))


def test_images_and_labels_and_nothing_of_the_test_folder(folder: Path, said: list[str]) -> None:
    samples = opened(folder)
    assert [(row.source, row.label, row.group) for row in samples.rows] == [
        (f"train/{name}.tif", index % 2, None) for index, name in enumerate(ids(6))
    ]
    assert samples.files == [folder / "train" / f"{name}.tif" for name in ids(6)]
    expected = np.array(Image.open(folder / "train" / f"{ids(6)[4]}.tif"))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(samples.read))(4), expected)
    assert not said


def test_it_keeps_the_contract_with_slides_and_without(folder: Path) -> None:
    check_component(KAGGLE_HCD, KaggleHcdParams(path=folder))
    table(folder, "wsi.csv", "id,wsi", dict.fromkeys(ids(9), "a"))
    check_component(KAGGLE_HCD, KaggleHcdParams(path=folder, slides=Path("wsi.csv")))


@pytest.mark.parametrize("column", ["wsi", "slide", "group"])
def test_a_list_of_slides_makes_groups(folder: Path, column: str) -> None:
    slides = {name: f"tumor_{index // 3}" for index, name in enumerate(ids(6))}
    given = table(folder.parent, "slides.csv", f"id,{column}", slides | {"of the test folder": "x"})
    assert [row.group for row in opened(folder, slides=given).rows] == ["tumor_0"] * 3 + ["tumor_1"] * 3


def test_ids_may_have_an_ending(folder: Path) -> None:
    table(folder, "train_labels.csv", "id,label", {f"{name}.tif": 1 for name in ids(6)})
    assert [row.label for row in opened(folder).rows] == [1] * 6


def test_images_without_a_label_are_left_out_and_named(folder: Path, said: list[str]) -> None:
    table(folder, "train_labels.csv", "id,label", dict.fromkeys(ids(4), 0))
    assert len(opened(folder).rows) == 4
    assert said == [
        f"{folder / 'train'}: 2 images have no label in train_labels.csv and are left out: "
        f"'{ids(6)[4]}.tif', '{ids(6)[5]}.tif'."
    ]


@pytest.mark.parametrize(
    ("fate", "groups"), [("leave_out", ["a"] * 4), ("own_group", ["a"] * 4 + ids(6)[4:])]
)
def test_images_whose_slide_is_unknown_go_where_the_setting_says(
    folder: Path, said: list[str], fate: str, groups: list[str]
) -> None:
    slides = table(folder, "wsi.csv", "id,wsi", dict.fromkeys(ids(4), "a"))
    assert f"{slides} names no slide for 2 images: '{ids(6)[4]}'" in complaint(folder, slides=slides)
    samples = opened(folder, slides=slides, without_slide=fate)
    assert [row.group for row in samples.rows] == groups
    assert "names no slide for 2 images, which are" in said[0]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((96, 96, 3)), "black all over"),
        (np.full((96, 96, 3), 255), "white all over"),
        (np.random.default_rng(0).integers(246, 256, (96, 96, 3)), "white all over"),
        (np.full((96, 96, 3), (200, 100, 150)), "one colour"),
    ],
)
def test_an_image_that_shows_nothing_is_unreadable(
    folder: Path, image: np.ndarray[Any, Any], reason: str
) -> None:
    samples = opened(folder)
    tiff(folder / "train" / f"{ids(6)[2]}.tif", image.astype(np.uint8))
    with pytest.raises(UnreadableImage, match=reason):
        samples.read(2)


def test_dark_and_pale_images_with_something_on_them_are_read(folder: Path) -> None:
    samples = opened(folder)
    for index, level in enumerate((0, 255)):
        image = np.full((96, 96, 3), level, np.uint8)
        image[40, 40] = 128
        tiff(folder / "train" / f"{ids(6)[index]}.tif", image)
        assert samples.read(index)[40, 40, 0] == 128


# ── What is refused ─────────────────────────────────────────────────────────────────────────────


def test_without_a_folder_it_tells_how_to_get_the_set(tmp_path: Path) -> None:
    message = complaint(None)
    assert "The 'path' parameter of data set 'kaggle_hcd' must name the folder" in message
    assert "kaggle competitions download -c histopathologic-cancer-detection" in message
    assert "--set dataset.path=hcd" in message
    assert f"{tmp_path} lacks train_labels.csv and train" in complaint(tmp_path)
    assert "is no folder, and so lacks" in complaint(tmp_path / "nothing")


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    (folder / "train" / f"{ids(6)[1]}.tif").unlink()
    lines = [f"{ids(6)[0]},2", f"{ids(6)[1]},1", f"{ids(6)[2]},", f"{ids(6)[3]}.tif,1"]
    (folder / "train_labels.csv").write_text("\n".join(["id,label", *lines, "../test/x,1", ""]))
    slides = table(folder, "wsi.csv", "id,patient", {})
    message = complaint(folder, slides=slides)
    assert f"must be 0 or 1. Got '{ids(6)[0]}: 2', '{ids(6)[2]}: '" in message
    assert f"lacks 2 of 5 images with a label: '{ids(6)[1]}.tif', '../test/x.tif'" in message
    assert (
        f"{slides} must have the columns 'id' and 'wsi' or 'slide' or 'group'. Got 'id', 'patient'" in message
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "must have the columns 'id' and 'label'. Got nothing"),
        (b"id,label\n", "has no labels"),
        (b"id,label\na,1\nb,0\na.tif,1\n", "must name each id once. It repeats 'a'"),
        (b"id,label\n\xff,1\n", "cannot be read"),
    ],
)
def test_a_table_of_labels_that_cannot_be_used_is_refused(
    folder: Path, content: bytes, expected: str
) -> None:
    (folder / "train_labels.csv").write_bytes(content)
    assert f"{folder / 'train_labels.csv'} {expected}" in complaint(folder)


def test_ids_that_are_repeated_do_not_hide_other_mistakes(folder: Path) -> None:
    one, two = ids(2)
    (folder / "train_labels.csv").write_text(f"id,label\n{one},1\n{one}.tif,0\n{two},3\nnowhere,0\n")
    message = complaint(folder)
    assert f"must name each id once. It repeats '{one}'" in message
    assert f"must be 0 or 1. Got '{two}: 3'" in message
    assert "lacks 1 of 3 images with a label: 'nowhere.tif'" in message


def test_a_list_of_the_slides_of_other_images_is_refused(folder: Path) -> None:
    slides = table(folder, "wsi.csv", "id,wsi", {"another": "a"})
    message = complaint(folder, slides=Path("wsi.csv"), without_slide="leave_out")
    assert (
        f"{slides} names none of the 6 images of {folder / 'train_labels.csv'}, such as '{ids(1)[0]}'"
        in message
    )
    assert "Give the list of these images, or set 'without_slide' to own_group" in message


def test_a_missing_list_of_slides_is_refused(folder: Path) -> None:
    assert "nowhere.csv cannot be read" in complaint(folder, slides=Path("nowhere.csv"))


# ── The recipe ──────────────────────────────────────────────────────────────────────────────────


def test_the_recipe_trains_and_files_that_show_nothing_are_in_quarantine(tmp_path: Path) -> None:
    folder = competition(tmp_path / "hcd", 48)
    for name, level in zip(ids(48), PLAIN.values(), strict=False):
        tiff(folder / "train" / f"{name}.tif", np.full((96, 96, 3), level, np.uint8))
    slides = {name: str(index // 2) for index, name in enumerate(ids(48))}
    table(folder, "wsi.csv", "id,wsi", slides)
    experiment = load(
        "hcd-cnn5",
        [
            f"dataset.path={folder}",
            "dataset.slides=wsi.csv",
            "training.epochs=1",
            "training.batch_size=16",
            "split.val=0.3",
            "split.test=0.3",
            "compute.device=cpu",
        ],
    )
    run = stages.start(experiment, "run")
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    manifest = PackedStore(packed.folder).manifest
    assert {entry.source: entry.reason for entry in manifest.quarantine} == {
        f"train/{name}.tif": f"it is {what} all over: it shows no tissue"
        for name, what in zip(ids(2), PLAIN, strict=True)
    }
    assert stages.train(experiment, packed, run).best["monitor"] == "val_loss"
    assert set(run.history()[0]) >= {"val_loss", "val_roc_auc"}
    assert "roc_auc" in stages.evaluate(run).metrics["scores"]


def test_the_recipe_without_a_folder_says_what_is_missing() -> None:
    with pytest.raises(DataError, match="--set dataset.path=hcd"):
        stages.fetch(load("hcd-cnn5"))
