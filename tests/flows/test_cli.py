"""The command line as a person types it: what it prints, and how it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import support
from conftest import Cli, Typed
from histoflow.experiment import load
from histoflow.files import digest_of_file

EXPERIMENT = """
name: small
dataset: {name: tissue, classes: 2, size: 32, images: 180, slides: 15}
augment: [flips, right_angles]
scheduler: one_cycle
architecture: {name: cnn, widths: [8, 16]}
training: {epochs: 3, batch_size: 32}
compute: {device: cpu}
metrics: [accuracy, roc_auc]
evaluation: {gallery: 0, embedding: false}
seed: 7
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    return str(path)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def its_own_server(
    cli_environment: dict[str, str], prefect_database: Callable[[Path], None]
) -> dict[str, str]:
    """The environment of a command that starts a Prefect server for itself."""
    prefect_database(Path(cli_environment["PREFECT_HOME"]))
    return {name: value for name, value in cli_environment.items() if name != "PREFECT_API_URL"}


def the_run(home: Path) -> Path:
    (run,) = (home / "runs").iterdir()
    return run


def weights(run: Path) -> dict[str, str]:
    """The hashes of the last and the best weights."""
    index = json.loads((run / "checkpoints" / "index.json").read_text())
    return {
        which: digest_of_file(run / "checkpoints" / entry["folder"] / "weights.safetensors")
        for which, entry in index.items()
    }


Said = Callable[..., str]


def saying(typed: Typed, capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command that goes well prints."""

    def command(*words: str) -> str:
        assert typed(*words) == 0
        return capsys.readouterr().out

    return command


@pytest.fixture
def said(typed: Typed, capsys: pytest.CaptureFixture[str]) -> Said:
    return saying(typed, capsys)


@pytest.fixture
def said_by_flow(typed_flow: Typed, capsys: pytest.CaptureFixture[str]) -> Said:
    return saying(typed_flow, capsys)


# ── Running ─────────────────────────────────────────────────────────────────────────────────────


def test_train_evaluate_and_runs_work_against_a_prefect_server(
    cli: Cli,
    said_by_flow: Said,
    home: Path,
    experiment: str,
    prefect_server: str,
) -> None:
    trained = cli("train", experiment, "--profile")
    assert trained.returncode == 0, trained.stderr
    assert "Flow run" not in trained.stdout + trained.stderr, "Prefect's log goes to the server alone"
    logs = httpx.post(f"{prefect_server}/logs/filter", json={"limit": 100}).json()
    assert any("Finished in state Completed()" in line["message"] for line in logs)
    assert "Epoch 3/3" in trained.stdout
    assert "overall" in trained.stdout
    run = the_run(home)
    assert str(run / "report.html") in trained.stdout
    assert (run / "profile" / "summary.txt").read_text() in trained.stdout
    assert str(run / "profile" / "trace.json") in trained.stdout
    assert (run / "report.html").is_file()

    assert "opened 2 times" in said_by_flow("evaluate", "latest", "--reason", "a second look")
    openings = json.loads((run / "openings.json").read_text())
    assert [opening["reason"] for opening in openings] == ["end of training", "a second look"]

    (row,) = json.loads(said_by_flow("runs", "--json"))
    assert (row["id"], row["state"], row["epochs"]) == (run.name, "evaluated", 3)
    assert set(row["test"]) == {"accuracy", "roc_auc"}
    assert run.name in said_by_flow("runs")


def test_a_run_works_on_a_fresh_machine_without_any_server(
    cli_environment: dict[str, str], tmp_path: Path, experiment: str
) -> None:
    """No Prefect server, no Prefect settings, no folder that histoflow has ever written to."""
    environment = {
        name: value
        for name, value in cli_environment.items()
        if not name.startswith("PREFECT_") and name != "HISTOFLOW_HOME"
    }
    environment |= {"HOME": str(tmp_path / "user"), "XDG_DATA_HOME": str(tmp_path / "user" / "share")}
    command = [sys.executable, "-m", "histoflow_flows.cli", "train", experiment]
    settings = ["--set", "training.epochs=1", "--set", "evaluation={}"]
    done = subprocess.run([*command, *settings], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (the_run(tmp_path / "user" / "share" / "histoflow") / "report.html").is_file()


def test_a_run_killed_in_mid_training_goes_on_to_the_very_same_weights(
    cli_environment: dict[str, str], said_by_flow: Said, home: Path, experiment: str
) -> None:
    longer = "training.epochs=8"
    with started(("train", experiment, "--set", longer), cli_environment) as process:
        _wait_for(lambda: list(home.glob("runs/*/checkpoints/index.json")), process)
        process.send_signal(signal.SIGKILL)
    run = the_run(home)
    assert json.loads((run / "run.json").read_text())["state"] == "training", (
        "killed too late to prove anything"
    )
    assert "interrupted" in said_by_flow("runs")
    assert "Going on after epoch" in said_by_flow("train", "--resume", run.name)

    assert weights(run) == weights(trained(experiment, longer))
    assert not list(run.rglob(".epoch-*")), "nothing half-written is left"


def trained(experiment: str, *settings: str) -> Path:
    """The folder of a run that this process trains."""
    return support.trained(load(experiment, settings), "undisturbed").folder


@pytest.mark.parametrize(
    ("how", "environment"),
    [
        ("ctrl-c in the terminal", "cli_environment"),
        ("ctrl-c twice", "its_own_server"),
        ("sigterm", "its_own_server"),
    ],
)
def test_however_it_is_ended_it_says_how_to_go_on_and_leaves_no_process_behind(
    request: pytest.FixtureRequest, home: Path, experiment: str, how: str, environment: str
) -> None:
    """The server that it started must be ended, too."""
    arguments = ("train", experiment, "--set", "training.epochs=5000")
    with started(arguments, request.getfixturevalue(environment), start_new_session=True) as process:
        _wait_for(lambda: list(home.glob("runs/*/checkpoints/index.json")), process)
        if how == "sigterm":
            process.send_signal(signal.SIGTERM)
        else:  # a terminal sends it to every process in it
            for _ in range(2 if how == "ctrl-c twice" else 1):
                os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted. To go on: histoflow train --resume {the_run(home).name}" in errors
    assert "Traceback" not in errors
    assert _processes_of_session(process.pid) == []


def test_a_kill_leaves_no_server_behind(its_own_server: dict[str, str], home: Path, experiment: str) -> None:
    arguments = ("train", experiment, "--set", "training.epochs=5000")
    with started(arguments, its_own_server, start_new_session=True) as process:
        _wait_for(lambda: list(home.glob("runs/*/run.json")), process)
        assert any("uvicorn" in line for line in _processes_of_session(process.pid))
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while _processes_of_session(process.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert _processes_of_session(process.pid) == []


def _processes_of_session(session: int) -> list[str]:
    """Command lines of its processes, less those that have ended and that nobody has asked about yet."""
    command = ["ps", "-o", "stat=,args=", "-s", str(session)]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [line for line in listed if not line.startswith("Z")]


@contextmanager
def started(
    arguments: tuple[str, ...], environment: dict[str, str], **options: bool
) -> Iterator[subprocess.Popen[str]]:
    """The command line in the background; gone, whatever happens, when the block ends."""
    command = [sys.executable, "-m", "histoflow_flows.cli", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the process ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────


def test_plugins_lists_every_component_as_data_and_as_a_table(said: Said) -> None:
    entries = json.loads(said("plugins", "--json"))
    found = {(entry["kind"], entry["name"]): entry for entry in entries}
    assert found["architecture", "resnet"]["status"] == "ok"
    assert found["architecture", "resnet"]["package"] == "histoflow"
    assert {"summary", "version", "plugin"} <= set(found["loss", "focal"])
    assert "densenet121" in said("plugins")


def test_plugins_show_prints_parameters_with_type_default_and_bounds(said: Said) -> None:
    shown = json.loads(said("plugins", "show", "optimizer", "adam", "--json"))
    lr = next(parameter for parameter in shown["parameters"] if parameter["name"] == "lr")
    assert (lr["type"], lr["default"], lr["bounds"]) == ("number", 0.001, "> 0, ≤ 100")
    assert lr["description"]
    assert "one of 18, 34, 50" in said("plugins", "show", "architecture", "resnet")


def test_check_says_what_is_valid_and_lists_what_is_not(
    typed: Typed, capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    assert typed("check", "demo") == 0
    assert typed("check", experiment, "--set", "loss.name=fokal", "--set", "training.epochs=0") == 2
    told = capsys.readouterr().err
    assert "2 mistakes" in told
    assert "Did you mean 'focal'?" in told
    assert "training.epochs: must be 1 or more. Got 0." in told


def test_recipes_are_listed_and_printed(said: Said) -> None:
    assert said("recipes").split() == [
        "demo",
        "fast",
        "folder-transfer",
        "hcd-cnn5",
        "pathmnist-resnet18",
        "pathmnist-tune",
        "pcam-transfer",
    ]
    assert "name: demo" in said("recipes", "demo")


def test_the_schema_is_json(said: Said) -> None:
    assert json.loads(said("schema"))["title"] == "histoflow experiment"


def test_home_prints_the_folder_and_its_sizes(said: Said, home: Path) -> None:
    shown = said("home")
    assert shown.startswith(str(home))
    assert "data/packed" in shown


def test_no_runs_yet_tells_how_to_begin(said: Said) -> None:
    assert "histoflow train demo" in said("runs")
    assert json.loads(said("runs", "--json")) == []


@pytest.mark.parametrize(
    "command", [[], ["train"], ["evaluate"], ["runs"], ["plugins"], ["plugins", "show"], ["check"], ["home"]]
)
def test_every_command_explains_itself(said: Said, command: list[str]) -> None:
    assert "Usage" in said(*command, "--help")


# ── Bad input ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "Name one experiment"),
        (("train", "demo", "--resume", "latest"), "Name one experiment"),
        (("train", "dmo"), "Did you mean 'demo'?"),
        (("train", "demo", "--set", "training.epochs"), "must look like training.epochs=3"),
        (("train", "--resume", "nothing"), "There is no run 'nothing'"),
        (("evaluate", "nothing"), "There is no run 'nothing'"),
        (("plugins", "show", "colour", "red"), "The kind must be one of dataset,"),
        (("plugins", "show", "loss", "fokal"), "Did you mean 'focal'?"),
        (("recipes", "nothing"), "must be one of demo,"),
        (("nothing",), "No such command"),
    ],
)
def test_the_users_mistakes_exit_2_with_one_message(
    typed: Typed, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert typed(*arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_mistake_that_only_the_running_flow_finds_exits_2_too(
    typed_flow: Typed, capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    assert typed_flow("train", experiment, "--set", "compute.device=cuda:7") == 2
    told = capsys.readouterr().err
    assert "torch sees" in told
    assert "Traceback" not in told


def test_a_home_that_cannot_be_written_exits_2(
    typed_flow: Typed,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    experiment: str,
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "file"))
    assert typed_flow("train", experiment) == 2
    assert "Set HISTOFLOW_HOME to a folder" in capsys.readouterr().err


def test_a_full_disk_exits_1_and_leaves_nothing_half_written(
    cli_environment: dict[str, str], home: Path, experiment: str
) -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"ulimit -f 64; trap '' XFSZ; exec {sys.executable} -m histoflow_flows.cli train {experiment}",
        ],
        env=cli_environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "No room to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (home / "data" / "packed").iterdir() if path.is_dir()] == []


def test_a_damaged_checkpoint_and_a_run_of_a_later_schema_exit_2(
    typed_flow: Typed, capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    run = trained(experiment, "training.epochs=1")
    weights = next(run.glob("checkpoints/*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x00")
    assert typed_flow("evaluate", "latest") == 2
    assert "was changed after it was written" in capsys.readouterr().err

    record = run / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"schema_version": 99}))
    assert typed_flow("evaluate", "latest") == 2
    assert "made by a newer histoflow" in capsys.readouterr().err
    assert typed_flow("runs") == 0
    assert "unreadable" in capsys.readouterr().out


def test_debug_shows_the_traceback(cli: Cli) -> None:
    assert "Traceback" in cli("--debug", "check", "nothing").stderr
