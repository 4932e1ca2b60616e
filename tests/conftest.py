"""What many tests share: a home of their own, the command line as a process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
from filelock import FileLock
from hypothesis import settings

import dawdler

# A busy machine is not a slow function; and two test processes share the cores, not fight for them.
settings.register_profile("histoflow", deadline=None)
settings.load_profile("histoflow")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell has what it starts in the background ignore Ctrl-C, for which some tests wait.
signal.signal(signal.SIGINT, signal.default_int_handler)

LONG = (
    "test_recovery.py",
    "test_tune.py",
    "test_service.py",
    "test_cli.py",
    "test_team.py",
    "test_deployments.py",
    "test_evidence.py",
    "test_postgres.py",
    "test_retrain.py",
    "test_folds.py",
)
"""Files that take minutes, the longest first: begun last, one of them would be waited for by an idle processor."""

QUIET_SERVER = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
}
"""A server without the services that only wake up in vain in these tests."""

Cli = Callable[..., subprocess.CompletedProcess[str]]
Typed = Callable[..., int]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test writes into a home of its own, never into the user's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HISTOFLOW_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Puts an empty database into a home of Prefect's, whose server would take five seconds to make one.

    It is made once for all processes of the tests.
    """
    shared = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if shared else base) / "empty-database"
    environment = os.environ | {"PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            subprocess.run(command, env=environment, check=True, capture_output=True)

    def put(home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        for part in folder.glob("prefect.db*"):
            shutil.copy(part, home)

    return put


@pytest.fixture(scope="session")
def prefect_server(
    tmp_path_factory: pytest.TempPathFactory, prefect_database: Callable[[Path], None]
) -> Iterator[str]:
    """The address of a real Prefect server that lives as long as the tests."""
    folder = tmp_path_factory.mktemp("prefect")
    prefect_database(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | QUIET_SERVER | {"PREFECT_HOME": str(folder)}
    with (folder / "server.log").open("w") as log:
        command = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        options = ["--port", str(port), "--log-level", "warning"]
        server = subprocess.Popen(
            [sys.executable, *command, *options], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/api/health", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}/api"
        send_what_is_left_to_send()
    finally:
        server.terminate()
        server.wait(timeout=30)


def send_what_is_left_to_send() -> None:
    """Logs and events of flows in this process, for which a server that is gone would be looked for at its end."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(address, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    pytest.fail(f"The Prefect server did not start:\n{log.read_text()}")


@pytest.fixture
def cli_environment(prefect_server: str, home: Path) -> dict[str, str]:
    return os.environ | {
        "HISTOFLOW_HOME": str(home),
        "PREFECT_API_URL": prefect_server,
        "PREFECT_HOME": str(home / "prefect"),
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


@pytest.fixture
def cli(cli_environment: dict[str, str]) -> Cli:
    """Run ``histoflow`` as a process of its own, against the tests' Prefect server."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "histoflow_flows.cli", *arguments],
            env=cli_environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Typed]:
    """Type a command in an empty folder, in this process; returns its exit code.

    What commands write into the environment is taken back.
    """
    from histoflow_flows import cli, display

    monkeypatch.chdir(tmp_path)
    for console in (display.out, display.err):  # made when the first test in this process needed them
        monkeypatch.setattr(console, "_width", 200)

    def command(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["histoflow", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    with patch.dict(os.environ):
        yield command


@pytest.fixture
def prefect_here(prefect_server: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Flows of this process run against the tests' Prefect server, as quietly as those of the command line."""
    from prefect.logging.handlers import PrefectConsoleHandler
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        temporary_settings,
    )

    for handler in logging.getLogger("prefect").handlers:
        if isinstance(handler, PrefectConsoleHandler):
            monkeypatch.setattr(handler, "level", logging.CRITICAL)
    settings = {
        PREFECT_API_URL: prefect_server,
        PREFECT_HOME: home / "prefect",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # else each flow waits a second for its thread to end
    }
    with temporary_settings(settings):
        yield prefect_server


@pytest.fixture
def typed_flow(typed: Typed, prefect_here: str) -> Typed:
    """``typed``, for commands that run flows."""
    return typed


Dawdling = Callable[[float], dict[str, str]]


@pytest.fixture(scope="session")
def dawdling(tmp_path_factory: pytest.TempPathFactory) -> Dawdling:
    """For the environment of a process: after each step of training it sleeps so many seconds."""
    return partial(dawdler.environment, tmp_path_factory.mktemp("dawdler"))
