"""A cross-validation under a real Prefect server, killed and gone on with."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from conftest import Dawdling, Typed
from histoflow import crossvalidation, files, runs
from histoflow.engine import checkpoint
from histoflow.runs import Run
from support import small_experiment, trained

EXPERIMENT = small_experiment(
    dataset={"name": "tissue", "classes": 2, "size": 16, "images": 90, "slides": 15},
    augment=[],
    architecture={"name": "cnn", "widths": [4]},
    training={"epochs": 6, "batch_size": 16, "folds": 2},
    reports=[],
)
PATIENCE = 240.0


def until(found: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := found()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def second_fold(home: Path) -> Run | None:
    """Once it has trained for a while."""
    found = [Run(path) for path in (home / "runs").glob("*-fold-2-of-2")]
    return found[0] if found and len(found[0].history()) >= 2 else None


def weights(run: Run) -> list[str]:
    found = [checkpoint.find(run.checkpoints, which) for which in ("last", "best")]
    return [saved.model_hash for saved in found if saved is not None]


@pytest.fixture
def killed(home: Path, cli_environment: dict[str, str], dawdling: Dawdling, tmp_path: Path) -> Run:
    """The run of the second fold, whose process was killed in the middle of it."""
    path = tmp_path / "small.yaml"
    path.write_text(files.yaml_of(EXPERIMENT.to_data()))
    command = [sys.executable, "-m", "histoflow_flows.cli", "train", str(path)]
    environment = cli_environment | dawdling(0.3)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            run: Run = until(lambda: (home / "runs").is_dir() and second_fold(home), process)
        finally:
            process.kill()
    assert run.read().stopped is None, "it was killed before its end"
    return run


def test_a_killed_cross_validation_goes_on_where_it_was_to_the_same_weights(
    killed: Run, home: Path, typed_flow: Typed, capsys: pytest.CaptureFixture[str], prefect_server: str
) -> None:
    (begun,) = crossvalidation.listing()
    first = begun.folds()[0].run
    assert begun.read().summary is None
    assert [result.fold for result in begun.read().results] == [1]
    before = [path.stat().st_mtime_ns for path in sorted(first.folder.rglob("*")) if path.is_file()]

    assert typed_flow("train", "--resume", "latest") == 0
    shown = capsys.readouterr().out
    assert f"Cross-validation {begun.id}" in shown
    assert "Fold 1 of 2" in shown
    assert "is done already" in shown
    assert "Going on" in shown
    assert "mean ± sd" in shown
    assert "no standard error" in " ".join(shown.split())

    after = [path.stat().st_mtime_ns for path in sorted(first.folder.rglob("*")) if path.is_file()]
    assert after == before, "the fold that was done was left alone"
    record = begun.read()
    assert record.summary is not None
    assert record.summary.test["accuracy"].n == 2
    assert [len(fold.run.openings()) for fold in begun.folds()] == [1, 1]
    assert (begun.folder / "report.html").is_file()
    assert [run.id for run in runs.listing(home / "runs")] == [fold.run.id for fold in begun.folds()]

    assert weights(killed) == weights(trained(begun.folds()[1].experiment, "undisturbed"))

    _assert_the_page_shows_it(begun.id, prefect_server)


def _assert_the_page_shows_it(cross_validation: str, server: str) -> None:
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["folds"]))
        cards = [str(card.data) for card in client.read_artifacts(artifact_filter=wanted)]
    assert f"fold 2 of {cross_validation}" in names
    (shown,) = [card for card in cards if f"{cross_validation}-fold-2-of-2" in card]
    assert "Held-out folds" in shown
    assert "**mean ± sd**" in shown


def test_a_cross_validation_is_listed_and_cannot_be_resumed_with_other_settings(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = crossvalidation.begin(EXPERIMENT, "20990101-small-ab12")
    assert typed("runs") == 0
    listed = capsys.readouterr().out
    assert "No runs yet" not in listed
    assert begun.id in listed
    assert "0 of 2" in listed
    assert typed("train", "--resume", begun.id, "--set", "training.folds=3") == 2
    assert "--resume takes no --set" in capsys.readouterr().err
