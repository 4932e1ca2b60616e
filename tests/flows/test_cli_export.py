"""``histoflow export`` as a person types it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import Typed
from exported import evaluated_run
from histoflow import models
from histoflow.bundles.bundle import open_bundle
from histoflow.runs import Run

LIGHT = ("--no-onnx", "--no-torch-export")


@pytest.fixture
def run(home: Path) -> Run:
    """In a home of its own, where models may be registered."""
    return Run(shutil.copytree(evaluated_run().folder, home / "runs" / "patches-run"))


def test_a_run_becomes_a_file_and_its_hash_is_told(
    typed: Typed, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("export", "latest", "--no-torch-export") == 0
    path = tmp_path / "patches-run.histoflow"
    told = capsys.readouterr().out
    manifest = open_bundle(path).manifest
    assert f"patches-run.histoflow: {path.stat().st_size / 1e6:.1f} MB, sha256 {manifest.sha256}" in told
    assert "model.onnx is at most" in told
    assert f"over {manifest.forms['model.onnx'].images} validation images" in told
    assert set(manifest.forms) == {"model.onnx"}


def test_a_registered_model_is_exported_when_its_run_and_its_data_are_gone(
    typed: Typed, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = shutil.copytree(str(run.read().packed), tmp_path / "packed")
    run.update(packed=str(packed))
    model = models.register(run, "patches").record.model
    shutil.rmtree(packed)
    shutil.rmtree(run.folder)
    (tmp_path / "there").mkdir()
    assert typed("export", "patches@1", "--out", "there", "--no-onnx") == 0
    manifest = open_bundle(tmp_path / "there" / "patches-run.histoflow").manifest
    assert manifest.model == model
    assert manifest.forms["model.pt2"].checked_on == "random images"
    told = capsys.readouterr()
    assert "The forms are checked with random images. The packed data" in told.out + told.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nobody",), "There is no run 'nobody'"),
        (("latest", "--out", "there.histoflow"), "there.histoflow exists. Name another"),
        (("nothing@2",), "nothing"),
    ],
)
def test_what_cannot_be_done_is_told(
    typed: Typed, run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    Path("there.histoflow").write_text("the former one")
    assert typed("export", *words, *LIGHT) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["there.histoflow"]
    assert Path("there.histoflow").read_text() == "the former one"


def test_a_former_bundle_is_replaced_where_that_is_allowed(typed: Typed, run: Run) -> None:
    Path("there.histoflow").write_text("the former one")
    assert typed("export", "latest", "--out", "there.histoflow", "--overwrite", *LIGHT) == 0
    assert open_bundle(Path("there.histoflow")).manifest.forms == {}
