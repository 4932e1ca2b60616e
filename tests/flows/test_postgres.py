"""Prefect's server on a real PostgreSQL, with the settings of the compose file: nothing is lost under many writers."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    temporary_settings,
)

import compose
from conftest import wait_until_healthy

LOGIN = "prefect:correct horse/battery@staple"
PASSWORD = "p@ss:w/rd %41 'quoted'"
PROCESSES, TASKS = 6, 40

WRITER = f"""
from prefect import flow, task

@task
def step(number: int) -> int:
    return number

@flow(name="many-writers")
def write() -> None:
    for number in range({TASKS}):
        step(number)

write()
"""

TRAIN = """
from support import small_experiment
from histoflow_flows.train import train_flow

train_flow(small_experiment(reports=[]))
"""


def binary(name: str) -> Path | None:
    """A program of PostgreSQL, which Debian keeps out of the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, places)))
    return Path(found).resolve() if found else None


def unprivileged(folder: Path) -> dict[str, int]:
    """Gives the folder to a user that PostgreSQL agrees to run as, since it refuses root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    """The port of a PostgreSQL that lives as long as this module's tests, with PASSWORD for the user prefect."""
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if not (initdb and pg_ctl):
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="histoflow-postgres-") as name:
        folder, port = Path(name), free_port()
        (folder / "password").write_text(PASSWORD)
        user = unprivileged(folder)

        def run(*command: str | Path) -> None:
            subprocess.run(command, **user, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # type: ignore[call-overload]

        secrets = ("--auth=scram-sha-256", "--username=prefect", f"--pwfile={folder / 'password'}")
        run(initdb, "--pgdata", folder / "data", *secrets, "--no-sync", "--encoding=UTF8")
        control = (pg_ctl, "--pgdata", folder / "data", "--wait", "--log", folder / "log")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(*control, "--options", options, "start")
        try:
            yield port
        finally:
            run(*control, "--mode", "immediate", "stop")


@pytest.fixture(scope="module")
def server(database: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the compose file's server, run as a process."""
    folder, port = tmp_path_factory.mktemp("compose"), str(free_port())
    secrets = {"POSTGRES_PASSWORD": PASSWORD, "PREFECT_SERVER_API_AUTH_STRING": LOGIN}
    service = compose.services(secrets)["server"]
    environment = os.environ | service["environment"] | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1",
        "PREFECT_SERVER_DATABASE_NAME": "postgres",
        "PREFECT_SERVER_DATABASE_PORT": str(database),
    }  # fmt: skip
    log = folder / "server.log"
    with log.open("w") as sink:
        command = [sys.executable, "-m", *service["command"]]
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/api/health", process, log)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def environment(server: str, home: Path) -> dict[str, str]:
    return os.environ | {
        "HISTOFLOW_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": server,
        "PREFECT_API_AUTH_STRING": LOGIN,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


def run_python(script: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output


def recorded(expected: list[dict[str, int]]) -> tuple[dict[str, int], list[dict[str, int]]]:
    """How many flow runs, and how many tasks of each, are in which state.

    Waits until the tasks of all but the first are as expected: they are recorded in order, a little later.
    """
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while True:
            flow_runs = sorted(client.read_flow_runs(), key=lambda run: run.created)
            of_each = [FlowRunFilter(id=FlowRunFilterId(any_=[run.id])) for run in flow_runs]
            tasks = [states(client.read_task_runs(flow_run_filter=one)) for one in of_each]
            if tasks[1:] == expected or time.monotonic() > deadline:
                return states(flow_runs), tasks
            time.sleep(0.5)


def states(runs: Sequence[FlowRun] | Sequence[TaskRun]) -> dict[str, int]:
    return dict(Counter(run.state_type.value for run in runs))


def test_without_the_login_nothing_can_be_read_or_written(server: str) -> None:
    assert httpx.get(f"{server}/health").status_code == 200
    assert httpx.get(f"{server}/admin/version").status_code == 401
    user, password = LOGIN.split(":", 1)
    assert httpx.get(f"{server}/admin/version", auth=(user, password)).status_code == 200
    without_token = httpx.post(f"{server}/flows/", json={"name": "a"}, auth=(user, password))
    assert without_token.status_code == 403
    assert "CSRF" in without_token.text


def test_every_state_of_a_training_and_of_many_writers_is_recorded(environment: dict[str, str]) -> None:
    finish([run_python(TRAIN, environment)])
    finish([run_python(WRITER, environment) for _ in range(PROCESSES)])
    expected = [{"COMPLETED": TASKS}] * PROCESSES
    settings = {PREFECT_API_URL: environment["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: LOGIN}
    with temporary_settings(settings):
        flow_runs, (of_training, *of_writers) = recorded(expected)
    assert flow_runs == {"COMPLETED": 1 + PROCESSES}
    assert set(of_training) == {"COMPLETED"}
    assert of_writers == expected
