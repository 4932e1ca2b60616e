"""``histoflow predict`` as a person types it, and the flow of the same work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from PIL import Image

import support
from conftest import Typed
from histoflow import stages
from histoflow.runs import Run
from histoflow_flows.predict import predict_flow
from support import small_experiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the run 'done', which has been trained, and 'new', which has not."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        experiment = small_experiment(training={"epochs": 1, "batch_size": 32})
        support.trained(experiment, "done")
        stages.start(experiment, "new")
    return home


@pytest.fixture
def images(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images and a file that is none, to be predicted with the runs of the home."""
    monkeypatch.setenv("HISTOFLOW_HOME", str(trained))
    (tmp_path / "images").mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32), (80 * index, 0, 90)).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    return tmp_path / "images"


def test_predictions_of_a_folder_and_of_files_are_written(
    typed: Typed, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("predict", "done", "images", "--tta", "dihedral", "--batch-size", "2") == 0
    assert "3 of 4 images predicted" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "predictions.parquet").num_rows == 4
    assert typed("predict", "done", "images/0.png", "images/1.png", "--out", "two.parquet") == 0
    assert pq.read_table("two.parquet")["path"].to_pylist() == ["images/0.png", "images/1.png"]
    Path("list.csv").write_text("case,path\n7,images/1.png\n8,images/0.png\n")
    assert typed("predict", "done", "list.csv", "--out", "cases.jsonl", "--raw") == 0
    assert [json.loads(line)["case"] for line in Path("cases.jsonl").read_text().splitlines()] == ["7", "8"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nobody", "images"), "nobody"),
        (("new", "images"), "Run new was never trained. Train it first"),
        (("done", "empty"), "IMAGES must hold at least one image"),
        (("done", "nowhere"), "There is no nowhere"),
        (("done", "images", "--out", "there.parquet"), "there.parquet exists"),
        (("done", "images", "--out", "table.xlsx"), "one of .parquet, .csv, .json, .jsonl. Got table.xlsx"),
        (("colon@3", "images"), "There is no model 'colon', nor any other yet"),
        (("done", "images", "--tta", "mirror"), "tta must be one of none, flips, dihedral. Got mirror"),
        (("done", "images", "--batch-size", "many"), "must be auto or a whole number. Got 'many'"),
        (("done", "images", "--device", "cuda:99"), "Use auto or cpu"),
        (("done",), "Name either image files and folders, or a split"),
        (("done", "--split", "test"), "The test split is sealed"),
    ],
)
def test_what_cannot_be_done_is_told(
    typed: Typed, images: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    Path("empty").mkdir()
    Path("there.parquet").write_text("the former one")
    assert typed("predict", *words) == 2
    assert message in capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == {"images", "empty", "there.parquet"}
    assert Path("there.parquet").read_text() == "the former one"


def test_ctrl_c_leaves_nothing_half_written(images: Path, trained: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for index in range(4000):
        os.link(images / "0.png", many / f"{index}.png")
    command = [sys.executable, "-m", "histoflow_flows.cli", "predict", "done", "many", "--tta", "dihedral"]
    environment = os.environ | {"HISTOFLOW_HOME": str(trained)}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".predictions.parquet.*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Nothing was written" in told
    assert {path.name for path in tmp_path.iterdir()} == {"images", "many"}


def test_each_flow_run_has_a_table_in_the_runs_folder_and_sends_an_event_when_images_have_drifted(
    trained: Path, images: Path, prefect_here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(trained / "runs" / "done")
    begin = datetime.now(UTC) - timedelta(minutes=1)
    stages.evaluate(run)
    black = [str(write(images.parent / "black" / f"{index}.png")) for index in range(40)]
    monkeypatch.chdir(images.parent)
    predict_flow("done", black, out="black.csv")
    tables = [predict_flow("done", split="val") for _ in range(2)]
    assert {table.parent for table in tables} == {run.folder / "predictions"}
    assert tables[0] != tables[1]
    assert all(pq.read_table(table).num_rows for table in tables)
    (event,) = events(prefect_here, begin)
    assert event["resource"]["prefect.resource.id"] == "histoflow.run.done"
    assert "brightness" in event["payload"]["outside"]
    assert "brightness is lower" in event["payload"]["words"]


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), (9, 0, 9)).save(path)
    return path


def events(server: str, since: datetime) -> list[dict[str, Any]]:
    """Those of drift that have reached the server, which is told of them in the background."""
    wanted = {"event": {"name": ["histoflow.drift"]}, "occurred": {"since": since.isoformat()}}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = httpx.post(f"{server}/events/filter", json={"filter": wanted}, timeout=10)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["events"]
        if found:
            return found
        time.sleep(0.3)
    return []
