"""``histoflow audit`` as a person types it, and a training that the audit refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Typed
from histoflow import files, stages
from histoflow.data.store import read_manifest
from histoflow.errors import AuditError
from histoflow.experiment import load
from support import small_experiment


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders under train, val and test; two images of test stand in train as well, one is damaged."""
    folder = tmp_path_factory.mktemp("leaking")
    chance = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 12), ("test", 12)):
        for label, colour in (("benign", 90), ("tumour", 160)):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(chance.normal(colour, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")
    images = folder / "images"
    for number in range(2):
        (images / "train" / "tumour" / f"copy-{number}.png").write_bytes(
            (images / "test" / "tumour" / f"{number}.png").read_bytes()
        )
    (images / "train" / "benign" / "damaged.png").write_bytes(b"no image")
    experiment = small_experiment(
        dataset={"name": "image_folder", "path": str(images)}, training={"epochs": 1}
    )
    (folder / "leaking.yaml").write_text(files.yaml_of(experiment.to_data()))
    return folder / "leaking.yaml"


@pytest.fixture(scope="module")
def packed_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed once, for the tests that only look."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def use_packed_home(monkeypatch: pytest.MonkeyPatch, packed_home: Path) -> None:
    monkeypatch.setenv("HISTOFLOW_HOME", str(packed_home))


def stores(home: Path) -> list[Path]:
    return sorted(path.parent for path in home.glob("data/packed/*/manifest.json"))


def flat(text: str) -> str:
    """Without the lines of tables, and with words where the terminal broke them."""
    return " ".join("".join(" " if sign in "│┃━─┏┓┗┛┡┩├┤┼╇┴┬┳└┘" else sign for sign in text).split())


def test_it_shows_what_was_found_and_ends_with_1_where_that_is_refused(
    typed: Typed, source: Path, packed_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("audit", str(source)) == 1
    shown = flat(capsys.readouterr().out)
    assert "leaks_into_test: refuse" in shown
    assert "To go on all the same: --set audit.leaks_into_test=warn" in shown
    assert "--set audit.leaks_into_test=drop leaves out those in train and val" in shown
    assert "How far colour alone gets on val" in shown
    assert "How well splits can be told apart" in shown
    assert "Quarantine" in shown
    assert "damaged.png" in shown
    assert len(stores(packed_home)) == 1


def test_a_data_set_is_audited_by_its_name(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HISTOFLOW_HOME", str(home))
    few = [f"dataset.{setting}" for setting in ("images=120", "classes=2", "size=32", "slides=12")]
    changes = [word for setting in few for word in ("--set", setting)]
    assert typed("audit", "tissue", *changes, "--set", "audit.leaks_into_test=warn", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(told["images"].values()) == 120
    assert Path(told["folder"]).parent == home / "data" / "packed"


def test_another_word_for_the_same_finding_packs_nothing_anew(
    typed: Typed, source: Path, packed_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stores(packed_home) or [Path()]
    assert typed("audit", str(source), "--set", "audit.leaks_into_test=warn") == 0
    assert "Nothing that was found stops a training" in capsys.readouterr().out
    assert stores(packed_home) == before or before == [Path()]


def test_data_for_programs_hold_the_same(
    typed: Typed, source: Path, packed_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("audit", str(source), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    (leak,) = (found for found in told["findings"] if found["severity"] == "refused")
    assert (leak["setting"], leak["policy"]) == ("leaks_into_test", "refuse")
    assert told["refused"] is True
    assert told["images"] == {"train": 62, "val": 24, "test": 24}
    assert [reason["images"] for reason in told["quarantine"]] == [1]
    folder = told["folder"]
    assert typed("audit", folder, "--json") == 1
    assert json.loads(capsys.readouterr().out) == told
    assert typed("audit", folder, "--set", "audit.leaks_into_test=warn", "--json") == 0
    assert json.loads(capsys.readouterr().out)["refused"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing",), "Got 'nothing', which is neither"),
        (("empty",), "must hold packed data, with a manifest.json"),
        (("packed", "--set", "audit.blank=drop"), "only audit.…=warn and audit.…=refuse can be set"),
        (("packed", "--set", "training.epochs=3"), "only audit.…=warn and audit.…=refuse can be set"),
        (("packed", "--set", "audit.blank=no"), "audit.blank"),
        (("packed", "--set", "audit.blanc=warn"), "The settings of audit are unreadable, blank"),
        (("packed", "--set", "audit=3"), "The settings of audit are unreadable, blank"),
        (("damaged",), "is missing or damaged"),
        (("demo", "--set", "audit.blank=no"), "audit.blank"),
        (("tissue", "--set", "audit.blank=no"), "data set 'tissue'"),
    ],
)
def test_what_cannot_be_audited_is_told(
    typed: Typed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    for name, text in (("empty", None), ("packed", "{}"), ("damaged", "{}")):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "manifest.json").write_text(text)
    assert typed("audit", *words) == 2
    assert message in flat(capsys.readouterr().err)


def test_training_is_refused_before_it_begins_until_the_policy_says_otherwise(
    source: Path, packed_home: Path
) -> None:
    experiment = load(source)
    raw = stages.fetch(experiment)
    with pytest.raises(AuditError, match=r"audit\.leaks_into_test=warn"):
        stages.preprocess(experiment, raw)
    known = stores(packed_home)
    stages.preprocess(load(source, ["audit.leaks_into_test=warn"]), raw)
    assert stores(packed_home) == known
    dropped = stages.preprocess(load(source, ["audit.leaks_into_test=drop"]), raw)
    assert stores(packed_home) != known
    manifest = read_manifest(dropped.folder)
    assert manifest.splits["train"].images == 60
    assert {Path(image.source).name for image in manifest.quarantine} == {
        "copy-0.png",
        "copy-1.png",
        "damaged.png",
    }


def test_the_flow_fails_before_training_with_exit_code_2(
    typed_flow: Typed, source: Path, packed_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed_flow("train", str(source)) == 2
    assert "To go on all the same: --set audit.leaks_into_test=warn" in flat(capsys.readouterr().err)
    (run,) = (packed_home / "runs").iterdir()
    assert not (run / "history.json").exists()
