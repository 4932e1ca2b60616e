"""``histoflow retrain`` as a person types it: what goes on, and what is refused before anything starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import Typed
from histoflow import home, stages
from histoflow.errors import UserError
from histoflow.retraining import asked
from histoflow.retraining.asked import Asked
from histoflow.retraining.gate import Gate
from histoflow.runs import Run
from support import small_experiment

Captured = pytest.CaptureFixture[str]
BEGUN = Asked(name="colon", gate=Gate(margin=0.02, require="better"), warm_start=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Begun, and then interrupted."""
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "home"))
    run = stages.start(small_experiment(), "begun")
    BEGUN.keep(run.folder)
    return run


def test_a_run_keeps_what_it_was_asked_for_at_its_start(run: Run) -> None:
    Asked(name="other", gate=Gate(), warm_start=False).keep(run.folder)
    assert asked.read(run) == BEGUN


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--name", "other"), "--name was colon, and is other now"),
        (("--gate", "margin=0.03"), "--gate margin was 0.02, and is 0.03 now"),
        (("--gate", "metric=f1", "--gate", "margin=0.02"), "--gate metric was None, and is f1 now."),
    ],
)
def test_one_that_goes_on_is_not_asked_for_something_else(
    run: Run, typed: Typed, capsys: Captured, options: tuple[str, ...], told: str
) -> None:
    assert typed("retrain", "--resume", "begun", *options) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert "Leave them out" in shown.err
    assert shown.out == ""


def test_saying_the_same_again_changes_nothing_and_a_warm_start_does(run: Run) -> None:
    asked.refuse_others(BEGUN, BEGUN.model_copy())
    cold = BEGUN.model_copy(update={"warm_start": False})
    with pytest.raises(UserError, match="--warm-start was False, and is True now"):
        asked.refuse_others(cold, BEGUN)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("retrain", "demo", "--resume", "nope"), "goes on with the experiment of 'nope'"),
        (("retrain", "--resume", "nope"), "There is no run 'nope'"),
        (("retrain", "--resume", "begun", "--set", "seed=1"), "--resume takes no --set"),
    ],
)
def test_what_cannot_go_on_is_told_once(
    run: Run, typed: Typed, capsys: Captured, words: tuple[str, ...], told: str
) -> None:
    assert typed(*words) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("Error") == 1


def test_a_run_that_is_no_retraining_does_not_go_on_as_one(run: Run, typed: Typed, capsys: Captured) -> None:
    (run.folder / asked.FILE).unlink()
    assert typed("retrain", "--resume", "begun") == 2
    assert "Run begun is no retraining" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "retrain"])
def test_a_run_outside_the_home_is_refused(
    run: Run, tmp_path: Path, typed: Typed, capsys: Captured, command: str
) -> None:
    elsewhere = shutil.copytree(run.folder, tmp_path / "elsewhere" / run.id)
    assert typed(command, "--resume", str(elsewhere)) == 2
    assert f"Only a run in the home {home.runs()} can go on. Got {elsewhere}." in capsys.readouterr().err
