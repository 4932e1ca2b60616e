"""What is new in a data set is told to a person at once, and to a server when a flow fetches."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from histoflow import stages
from histoflow.experiment import Experiment, parse
from histoflow.stages import RawData


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    for value, name in enumerate(("normal", "tumour")):
        (tmp_path / "patches" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / "patches" / name / "0.png")
    return tmp_path / "patches"


@pytest.fixture
def asked(patches: Path, home: Path) -> Experiment:
    return parse({"dataset": {"name": "image_folder", "path": str(patches)}})


def came(patches: Path, name: str) -> None:
    Image.new("RGB", (8, 8), "pink").save(patches / "tumour" / name)


def untold(asked: Experiment) -> tuple[RawData, str]:
    raw = stages.fetch(asked)
    return raw, stages.untold(asked, raw)


def test_what_others_have_seen_is_untold_until_a_server_knows_of_it(patches: Path, asked: Experiment) -> None:
    assert untold(asked)[1] == "", "the first time there is nothing to compare with"
    came(patches, "1.png")
    assert "1 added (1 tumour)" in stages.fetch(asked).changes
    raw, told = untold(asked)
    assert raw.changes == "", "it was seen"
    assert "1 added (1 tumour)" in told
    came(patches, "2.png")
    raw, told = untold(asked)
    assert "1 added (1 tumour)" in raw.changes
    assert "2 added (2 tumour)" in told, "all since a server was told"
    stages.mark_told(asked, raw)
    assert untold(asked)[1] == ""


def test_what_was_undone_before_a_server_was_told_is_no_news(patches: Path, asked: Experiment) -> None:
    stages.fetch(asked)
    came(patches, "1.png")
    stages.fetch(asked)
    (patches / "tumour" / "1.png").unlink()
    assert untold(asked)[1] == ""


def test_files_that_were_fetched_anew_since_are_left_to_whoever_did(patches: Path, asked: Experiment) -> None:
    stages.fetch(asked)
    came(patches, "1.png")
    early = stages.fetch(asked)
    came(patches, "2.png")
    late, told = untold(asked)
    assert stages.untold(asked, early) == ""
    stages.mark_told(asked, early)
    assert stages.untold(asked, late) == told != ""


def test_homes_of_before_tell_what_has_changed_since(patches: Path, asked: Experiment, home: Path) -> None:
    stages.fetch(asked)
    for kept in home.glob("data/raw/image_folder/told-*"):
        kept.unlink()
    came(patches, "1.png")
    assert "1 added" in untold(asked)[1]
