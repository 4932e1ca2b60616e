"""Tuning as a person and as Prefect see it: trials are tasks, a killed search loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import optuna
import pytest

from conftest import Cli, Dawdling, Typed
from histoflow_flows.tune import tune_flow

EXPERIMENT = """
name: small
dataset: {name: tissue, classes: 2, size: 32, images: 180, slides: 15}
architecture: {name: cnn, widths: [8, 16]}
training: {epochs: 2, batch_size: 32}
compute: {device: cpu}
metrics: [accuracy, roc_auc]
evaluation: {gallery: 0, embedding: false}
seed: 7
"""
SPACE = """
optimizer:
  - {name: adam, lr: {low: 1e-4, high: 1e-2, log: true}}
  - sgd
training.batch_size: [32, 64]
"""


@pytest.fixture
def tuning(tmp_path: Path) -> tuple[str, ...]:
    """The arguments of a small search."""
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    (tmp_path / "space.yaml").write_text(SPACE)
    return "tune", str(tmp_path / "small.yaml"), "--space", str(tmp_path / "space.yaml")


def the_study(home: Path) -> Path:
    (study,) = (home / "studies").iterdir()
    return study


def trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{study / 'study.db'}"
    return optuna.load_study(study_name=study.name, storage=storage).trials


def task_runs(server: str, flow_run_name: str) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"name": {"any_": [flow_run_name]}}}
    found: list[dict[str, Any]] = httpx.post(f"{server}/task_runs/filter", json=wanted).json()
    return found


def cards(server: str, flow_run_id: str) -> list[dict[str, Any]]:
    wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run_id]}}}
    found: list[dict[str, Any]] = httpx.post(f"{server}/artifacts/filter", json=wanted).json()
    return found


def test_a_search_shows_its_trials_as_tasks_and_trains_the_best_on_all_data(
    typed_flow: Typed,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    tuning: tuple[str, ...],
    prefect_server: str,
) -> None:
    code = typed_flow(
        *tuning, "--trials", "3", "--parallel", "2", "--objective", "val_roc_auc",
        "--set", "name=shown", "--set", "search.fidelity={training.epochs: 1, training.share: 0.5}",
    )  # fmt: skip
    told = capsys.readouterr()
    assert (code, told.err) == (0, "")
    study = the_study(home)

    tasks = task_runs(prefect_server, "tune shown")
    names = sorted(run["name"] for run in tasks if run["name"].startswith("trial"))
    assert [name.split(":")[0] for name in names] == ["trial 0", "trial 1", "trial 2"]
    assert all("batch_size=" in name and "lr=" in name for name in names)
    assert {run["state_name"] for run in tasks} == {"Completed"}
    shown = cards(prefect_server, tasks[0]["flow_run_id"])
    assert sorted(card["key"] for card in shown) == ["progress", "trials"], "one card of each kind"
    (table,) = (json.loads(card["data"]) for card in shown if card["key"] == "trials")
    assert len(table) == 3
    assert table[0]["trial"].endswith("★")

    assert not list(study.rglob("openings.json")), "the search never opens the test split"
    assert typed_flow("runs", "--json") == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run["state"] == "evaluated"
    assert run["epochs"] == 2, "trained as the experiment says, not as the trials"
    assert len(json.loads((home / "runs" / run["id"] / "openings.json").read_text())) == 1
    assert run["id"] in (study / "tuning.html").read_text()
    assert str(study / "tuning.html") in told.out
    assert typed_flow("check", str(study / "best.yaml")) == 0


def test_a_search_that_was_killed_goes_on_and_repeats_no_trial(
    typed_flow: Typed,
    cli_environment: dict[str, str],
    dawdling: Dawdling,
    home: Path,
    tuning: tuple[str, ...],
) -> None:
    arguments = (*tuning, "--trials", "3", "--no-retrain", "--set", "training.epochs=5")
    with started(arguments, cli_environment | dawdling(0.2)) as process:
        until(lambda: list(home.glob("studies/*/trials/trial-0001/checkpoints/index.json")), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    study = the_study(home)
    before = trials(study)
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"], (
        "killed too late to prove anything"
    )

    assert typed_flow("tune", "--resume", study.name) == 0
    after = trials(study)
    assert [trial.state.name for trial in after] == ["COMPLETE"] * 3
    assert [trial.params for trial in after[:2]] == [trial.params for trial in before]
    assert after[0].datetime_complete == before[0].datetime_complete
    run = json.loads((study / "trials" / "trial-0001" / "run.json").read_text())
    assert [session["after_epoch"] > 0 for session in run["sessions"]] == [False, True], "from its checkpoint"


@pytest.mark.parametrize(("runner", "processes"), [("dask", 2), ("ray", 1)])
def test_trials_run_in_the_processes_of_a_cluster(
    cli: Cli, home: Path, tuning: tuple[str, ...], runner: str, processes: int
) -> None:
    cluster = ("--runner", runner, "--parallel", str(processes))
    quiet = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}  # it looks a hundred times a second
    done = cli(*tuning, *cluster, "--trials", "2", "--pruner", "median", "--no-retrain", **quiet)
    assert done.returncode == 0, done.stderr
    study = the_study(home)
    assert [trial.state.name for trial in trials(study)] == ["COMPLETE"] * 2
    assert all(len(trial.intermediate_values) == 2 for trial in trials(study)), "told from those processes"
    assert (study / "tuning.html").is_file()


def test_one_trial_can_be_cancelled_and_sigterm_ends_all_and_says_how_to_go_on(
    cli_environment: dict[str, str],
    dawdling: Dawdling,
    home: Path,
    tuning: tuple[str, ...],
    prefect_server: str,
) -> None:
    arguments = (*tuning, "--parallel", "2", "--set", "training.epochs=5000", "--set", "name=ended")
    with started(arguments, cli_environment | dawdling(0.05)) as process:
        until(lambda: len(list(home.glob("studies/*/trials/*/history.json"))) == 2, process)
        runs = task_runs(prefect_server, "tune ended")
        (run,) = (run for run in runs if run["name"].startswith("trial 0:"))
        order = {"state": {"type": "CANCELLED"}, "force": True}
        httpx.post(f"{prefect_server}/task_runs/{run['id']}/set_state", json=order).raise_for_status()
        until(lambda: list(home.glob("studies/*/trials/trial-0002/history.json")), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    study = the_study(home)
    assert process.returncode == 130
    assert f"histoflow tune --resume {study.name}" in errors
    assert "Traceback" not in errors
    found = trials(study)
    assert [trial.state.name for trial in found] == ["FAIL", "RUNNING", "RUNNING"], (
        "they go on with the study"
    )
    assert "Cancelled by hand" in found[0].user_attrs["error"]


def test_a_trial_that_fails_by_bad_luck_is_tried_again(
    typed_flow: Typed,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    tuning: tuple[str, ...],
    prefect_server: str,
) -> None:
    """Its folder is on a disk that is away for a while."""
    settings = ("--trials", "1", "--no-retrain", "--set", "name=unlucky")
    assert typed_flow(*tuning, *settings) == 0
    study = the_study(home)
    (study / "trials").rename(home / "disk")
    (study / "trials").symlink_to(home / "away")

    def bring_the_disk_back() -> None:
        until(lambda: "AwaitingRetry" in trial_states(prefect_server, "tune unlucky"))
        (home / "disk").rename(home / "away")

    with ThreadPoolExecutor() as helper:
        brought_back = helper.submit(bring_the_disk_back)
        code = typed_flow("tune", "--resume", study.name, "--trials", "2")
        brought_back.result()
    assert (code, capsys.readouterr().err) == (0, "")
    assert [trial.state.name for trial in trials(study)] == ["COMPLETE"] * 2


def trial_states(server: str, flow_run_name: str) -> list[str]:
    return [run["state_name"] for run in task_runs(server, flow_run_name) if run["name"].startswith("trial")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name one tuning or experiment"),
        (("demo", "--resume", "latest"), "Name one tuning or experiment"),
        (("dmo",), "Did you mean 'demo'?"),
        (("--resume", "nothing"), "There is no study 'nothing'"),
        (("demo", "--sampler", "grid"), "must name something to search"),
        (("demo", "--sampler", "cma"), "search.sampler: must be 'tpe', 'random' or 'grid'. Got 'cma'"),
        (("demo", "--objective", "val_colour"), "must be of val_loss, val_accuracy"),
        (("demo", "--space", "nothing.yaml"), "The space file nothing.yaml cannot be read"),
        (("demo", "--set", "search.trials=0"), "search.trials: must be 1 or more"),
        (("demo", "--storage", "postgresql://me:word@host/x"), "must not hold a password"),
    ],
)
def test_the_users_mistakes_exit_2_with_one_message(
    typed: Typed,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert typed("tune", *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_check_knows_tunings(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert typed("check", "pathmnist-tune") == 0
    assert (
        "searches optimizer, optimizer.adam.lr, optimizer.sgd.lr, training.batch_size by grid"
        in capsys.readouterr().out
    )


def test_the_form_of_tune_flow_holds_the_experiment_and_the_search() -> None:
    assert tune_flow.name == "tune-flow"
    schema = tune_flow.parameters.model_dump()
    assert schema["definitions"]["Search"]["properties"]["sampler"]["enum"] == ["tpe", "random", "grid"]
    assert '"gamma"' in json.dumps(schema), "the parameters of every plugin's components"


# ── Processes ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def started(arguments: tuple[str, ...], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "histoflow_flows.cli", *arguments]
    process = subprocess.Popen(
        command, env=environment | {"PYTHONUNBUFFERED": "1"}, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def until(happened: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process is None or process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)
