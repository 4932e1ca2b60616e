"""``histoflow fetch`` and ``histoflow gc`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Typed

FOLDER = ("demo", "--set", "dataset={name: image_folder, path: patches}")


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    chance = np.random.default_rng(0)
    for name in ("normal", "tumour"):
        (tmp_path / "patches" / name).mkdir(parents=True)
        for index in range(3):
            pixels = chance.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "patches" / name / f"{index}.png")
    return tmp_path / "patches"


def test_fetch_tells_in_words_what_has_changed(
    typed: Typed, patches: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("fetch", *FOLDER) == 0
    first = capsys.readouterr().out
    assert "image_folder: 6 files, fingerprint " in first
    assert "Nothing has changed since it was last fetched, or this is the first time." in first

    (patches / "normal" / "0.png").rename(patches / "tumour" / "was-normal.png")
    (patches / "normal" / "1.png").unlink()
    Image.new("RGB", (8, 8), "pink").save(patches / "tumour" / "new.png")
    assert typed("fetch", *FOLDER) == 0
    second = capsys.readouterr().out
    assert "1 added (1 tumour); 1 removed (1 normal); 1 relabelled (1 normal → tumour)" in second
    assert "It had 6 images and has 6." in second
    assert first.split("fingerprint ")[1][:16] != second.split("fingerprint ")[1][:16]

    assert typed("fetch", *FOLDER, "--json") == 0
    raw = json.loads(capsys.readouterr().out)
    assert (raw["files"], raw["changes"]) == (6, "")


def test_what_cannot_be_fetched_is_one_error(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("fetch", *FOLDER) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_gc_lists_before_it_removes(
    typed: Typed, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    old = home / "data" / "packed" / "old-0123"
    old.mkdir(parents=True)
    assert typed("gc") == 0
    assert "Nothing is unused" in capsys.readouterr().out, "it may be wanted in a moment"
    assert typed("gc", "--young") == 0
    assert "To remove them: histoflow gc --remove" in capsys.readouterr().out
    assert old.is_dir()
    assert typed("gc", "--young", "--remove", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["folder"], row["removed"]) == (str(old), True)
    assert not old.exists()
