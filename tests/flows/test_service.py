"""'histoflow up' as a person uses it: one command, and everything works together."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from conftest import Dawdling, Typed

ROOT = Path(__file__).parents[2]
SMALL = {
    "dataset": {"name": "tissue", "images": 90, "size": 16, "classes": 2},
    "architecture": {"name": "cnn", "widths": [4]},
    "evaluation": {"gallery": 0, "embedding": False},
    "reports": [],
}
READY = "Ctrl-C stops everything."


def wait_for(what: str, done: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.3)
    pytest.fail(f"Waited in vain for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Up:
    """A running 'histoflow up' and the home that it has to itself."""

    home: Path
    port: int
    environment: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def output(self) -> str:
        return (self.home / "up.log").read_text()

    def record(self) -> dict[str, Any]:
        return json.loads((self.home / "prefect" / "up.json").read_text())

    def command(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command typed in the checkout's root, in another terminal."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            env=self.environment | more, cwd=ROOT, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def histoflow(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.command("histoflow_flows.cli", *arguments, **more)

    def processes(self) -> list[psutil.Process]:
        """All that descends from it and still runs."""
        mark = ("HISTOFLOW_HOME", str(self.home))
        return [one for one in psutil.process_iter() if mark in environment_of(one).items()]


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def start(home: Path, *arguments: str, **variables: str) -> Up:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"HISTOFLOW_HOME": str(home), "COLUMNS": "200", "NO_COLOR": "1", **variables}
    with (home / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "histoflow_flows.cli", "up", "--port", str(port), *arguments],
            env=environment, cwd=home, stdout=log, stderr=log, text=True,
        )  # fmt: skip
    up = Up(home, port, environment, process)
    try:
        wait_for("the system to be up", lambda: READY in up.output or process.poll() is not None)
        assert READY in up.output, up.output
    except BaseException:
        stop(up)
        raise
    return up


def stop(up: Up) -> None:
    """Whatever a test left."""
    up.histoflow("down")
    up.process.wait(timeout=90)


@pytest.fixture(scope="module")
def up(
    tmp_path_factory: pytest.TempPathFactory,
    prefect_database: Callable[[Path], None],
    dawdling: Dawdling,
) -> Iterator[Up]:
    """With flow runs that train at leisure."""
    home = tmp_path_factory.mktemp("up")
    prefect_database(home / "prefect")
    running = start(home, **dawdling(0.1))
    yield running
    stop(running)


def test_the_ui_the_pool_the_slots_and_the_deployments_are_there(up: Up) -> None:
    assert f"UI:      http://127.0.0.1:{up.port}" in up.output
    page = httpx.get(f"http://127.0.0.1:{up.port}", headers={"Accept": "text/html"}, follow_redirects=True)
    assert page.url.path.startswith("/v2")
    assert "<!doctype html>" in page.text.lower()
    assert httpx.get(f"http://127.0.0.1:{up.port}/ui-settings").json()["api_url"] == up.api
    assert httpx.get(f"{up.api}/work_pools/gpu").json()["type"] == "process"
    limit = httpx.get(f"{up.api}/v2/concurrency_limits/gpu").json()
    assert limit["active"]
    assert limit["limit"] >= 1
    deployed = httpx.post(f"{up.api}/deployments/filter", json={}).json()
    assert {one["name"] for one in deployed} >= {"train-flow", "evaluate-flow"}


def test_its_server_was_told_to_be_discreet_and_to_keep_slots(up: Up) -> None:
    server = httpx.get(f"{up.api}/admin/settings").json()["server"]
    assert server["analytics_enabled"] is False
    assert server["ui"]["show_promotional_content"] is False
    assert server["concurrency"]["lease_storage"].endswith(".filesystem")
    assert "flow_runs" in server["services"]["db_vacuum"]["enabled"]


def test_a_second_one_for_the_same_home_is_refused(up: Up) -> None:
    second = up.histoflow("up", "--port", str(free_port()))
    assert second.returncode == 2
    assert f"already runs for the home {up.home} at http://127.0.0.1:{up.port}" in second.stderr


def test_the_doctor_finds_nothing_wrong_and_says_so_for_programs_too(up: Up) -> None:
    done = up.histoflow("up", "--check", "--json")
    assert done.returncode == 0, done.stdout
    status = {finding["check"]: finding["status"] for finding in json.loads(done.stdout)}
    for check in ("home", "plugins", "server", "version", "leases", "work pool", "worker", "slots"):
        assert status[check] == "ok"
    assert status["train-flow"] == "ok"


def test_a_bare_name_typed_in_the_checkout_finds_server_and_deployment(up: Up) -> None:
    small = json.dumps(SMALL | {"name": "typed", "training": {"epochs": 1}})
    good = up.command("prefect", "deployment", "run", "train-flow", "-p", f"experiment={small}")
    assert good.returncode == 0, good.stdout + good.stderr
    wrong = json.dumps(SMALL | {"optimizer": {"name": "sgd", "learning_rate": 1}})
    refused = up.command("prefect", "deployment", "run", "train-flow", "-p", f"experiment={wrong}")
    assert refused.returncode == 1
    said = " ".join((refused.stdout + refused.stderr).split())
    assert (
        "Validation failed for field 'experiment.optimizer'. Failure reason: 'learning_rate' is not" in said
    )
    wait_for("the run", lambda: states(up).get("train typed") == "COMPLETED")


def states(up: Up) -> dict[str, str]:
    """The state of each flow run, by its name, as the server's database has it."""
    with sqlite3.connect(up.home / "prefect" / "prefect.db") as database:
        return dict(database.execute("SELECT name, state_type FROM flow_run"))


def deployment(up: Up) -> dict[str, Any]:
    return httpx.get(f"{up.api}/deployments/name/train-flow/train-flow").json()


def test_a_worker_that_dies_is_started_again(up: Up) -> None:
    first = up.record()["processes"]["worker"]["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for("another worker", lambda: up.record()["processes"].get("worker", {}).get("pid", first) != first)
    assert "The worker ended by itself (exit status -9)" in up.output


def test_a_schedule_that_is_switched_on_fires_and_outlives_a_new_deployment(up: Up) -> None:
    (weekly,) = deployment(up)["schedules"]
    assert weekly["active"] is False
    place = f"{up.api}/deployments/{deployment(up)['id']}"
    experiment = SMALL | {"name": "scheduled", "training": {"epochs": 100_000}}
    httpx.patch(place, json={"parameters": {"experiment": experiment}}).raise_for_status()
    soon = (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
    daily = {"schedule": {"interval": 86_400, "anchor_date": soon}, "active": True}
    # SQLite may be busy with others' writes, which the server tells by a status of 503.
    change = f"{place}/schedules/{weekly['id']}"
    wait_for("the changed schedule", lambda: httpx.patch(change, json=daily).is_success, seconds=30)
    done = up.histoflow("deploy")
    assert "Deployed: train-flow" in done.stdout, done.stderr
    assert deployment(up)["parameters"] == {"experiment": experiment}
    assert [one["active"] for one in deployment(up)["schedules"]] == [True]
    wait_for("the schedule to fire", lambda: states(up).get("train scheduled"))


def test_a_sigterm_ends_everything_and_a_running_training_is_told(up: Up) -> None:
    """The last one: it ends the system that the others use. The training is the one that was scheduled."""
    checkpoints = "*scheduled*/checkpoints/index.json"
    wait_for("the first checkpoint", lambda: list((up.home / "runs").glob(checkpoints)))
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=90) == 0
    assert states(up)["train scheduled"] == "CRASHED", "which the next 'up' takes up again"
    assert up.processes() == []
    assert not (up.home / "prefect" / "up.json").exists()


def test_for_other_machines_it_wants_a_password_and_what_a_kill_leaves_is_ended_by_down(
    tmp_path: Path, prefect_database: Callable[[Path], None]
) -> None:
    prefect_database(tmp_path / "prefect")
    secret = {"PREFECT_SERVER_API_AUTH_STRING": "lab:secret"}
    up = start(tmp_path, "--host", "0.0.0.0", "--no-worker", **secret)
    assert httpx.get(f"{up.api}/admin/version").status_code == 401
    assert httpx.get(f"{up.api}/admin/version", auth=("lab", "wrong")).status_code == 401
    assert httpx.get(f"{up.api}/admin/version", auth=("lab", "secret")).status_code == 200
    forged = httpx.post(f"{up.api}/deployments/filter", json={}, auth=("lab", "secret"))
    assert forged.status_code == 403, "without a CSRF token"
    assert "secret" not in (tmp_path / "prefect" / "up.json").read_text()
    up.process.kill()
    up.process.wait()
    again = up.histoflow("up", "--port", str(free_port()))
    assert again.returncode == 2
    assert "End them with: histoflow down" in again.stderr
    done = up.histoflow("down")
    assert done.returncode == 0, done.stderr
    assert up.processes() == []
    assert "Nothing is running" in up.histoflow("down").stdout


def test_a_host_that_others_reach_is_refused_without_a_password(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("up", "--host", "0.0.0.0") == 2
    assert "PREFECT_SERVER_API_AUTH_STRING must be USER:PASSWORD" in capsys.readouterr().err
