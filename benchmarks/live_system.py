"""A running system to measure: ``histoflow up`` on a home of its own, and a worker that can be cut off."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from flaky_network import FlakyNetwork


class System:
    """A server under ``histoflow up``, and a worker behind a network of its own."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.network = FlakyNetwork(self.port)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "HISTOFLOW_HOME": str(home),
            "PREFECT_PLUGINS_ENABLED": "1",
            **settings,
        }
        self.worker: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api", timeout=60)
        command = ["up", "--no-worker", "--port", str(self.port)]
        self.up = self._start("up", ["-m", "histoflow_flows.cli", *command], self.environment)
        until(lambda: "Ctrl-C stops" in (home / "up.log").read_text(), "histoflow up", 240)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=log, stderr=log, cwd=self.home
            )

    def start_worker(self) -> None:
        """Start a worker, and start it again when it ends by itself, as a service manager would."""
        relayed = {"PREFECT_API_URL": f"http://127.0.0.1:{self.network.port}/api"}
        command = ["-m", "prefect", "worker", "start", "--pool", "gpu"]
        self.worker = self._start("worker", command, self.environment | relayed)
        threading.Thread(target=self._tend, args=(self.worker,), daemon=True).start()

    def _tend(self, worker: subprocess.Popen[bytes]) -> None:
        worker.wait()
        if self.worker is worker:
            time.sleep(2)
            self.start_worker()

    def end_worker(self, number: signal.Signals) -> None:
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.send_signal(number)
            worker.wait(60)

    @property
    def server(self) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.up.pid).children() if "server" in child.cmdline()]
        return found

    def processes_of(self, flow_run: str) -> list[psutil.Process]:
        return [process for process, worked_on in self.flow_processes() if worked_on == flow_run]

    def flow_processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Each process that a worker started, and the flow run that it works on."""
        for process in ours(self.home):
            if flow_run := environment_of(process).get("PREFECT__FLOW_RUN_ID"):
                yield process, flow_run

    def end(self) -> list[str]:
        """Stop everything, and name what does not stop."""
        self.end_worker(signal.SIGTERM)
        self.up.send_signal(signal.SIGINT)
        self.up.wait(120)
        time.sleep(2)
        return [" ".join(process.cmdline())[:120] for process in ours(self.home)]

    # ── Over the server's API ──

    def ask(self, method: str, path: str, **data: Any) -> Any:
        """An answer of the server, however long it is away."""
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = self.api.request(method, path, json=data or None)
                answer.raise_for_status()
                return answer.json()
            except (httpx.TransportError, httpx.HTTPStatusError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def submit(self, **parameters: Any) -> str:
        deployment = self.ask("GET", "/deployments/name/train-flow/train-flow")["id"]
        made = self.ask("POST", f"/deployments/{deployment}/create_flow_run", parameters=parameters)
        return str(made["id"])

    def state(self, flow_run: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{flow_run}")["state_type"])

    def restarts(self, flow_run: str) -> int:
        states = self.ask("GET", f"/flow_run_states/?flow_run_id={flow_run}")
        return sum(state["name"] == "AwaitingRetry" for state in states)

    def slots_taken(self) -> dict[str, int]:
        limits = self.ask("POST", "/v2/concurrency_limits/filter", limit=50, offset=0)
        return {limit["name"]: limit["active_slots"] for limit in limits if limit["active_slots"]}


def ours(home: Path) -> Iterator[psutil.Process]:
    me = os.getpid()
    for process in psutil.process_iter():
        if process.pid != me and environment_of(process).get("HISTOFLOW_HOME") == str(home):
            yield process


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ() if process.status() != psutil.STATUS_ZOMBIE else {}
    except psutil.Error:  # it has just ended, or is another user's
        return {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(found: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.3)
    return result
