"""Starts the system, watches it, and ends it."""

from __future__ import annotations

import os
import platform
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Any

import httpx
from filelock import FileLock, Timeout

from histoflow import home
from histoflow.errors import HistoflowError, UserError
from histoflow_flows.service import ports, record
from histoflow_flows.service.children import Child, Say
from histoflow_flows.service.ending import end_all
from histoflow_flows.service.gpus import visible_gpus
from histoflow_flows.service.reaping import Reaping
from histoflow_flows.service.record import TOKEN_VARIABLE, Mark, Record
from histoflow_flows.service.settings import POOL, Settings, environment

if TYPE_CHECKING:
    import psutil

_START_SECONDS = 180.0
"""A server's first start migrates its database; on a small, busy machine that takes a while."""

_POLL_SECONDS = 0.5


def run(settings: Settings, say: Say) -> None:
    """Start everything, say when it works, watch it until Ctrl-C or SIGTERM, and end it."""
    told = environment(settings)
    with _only_one(), _interrupts() as interrupts:
        ports.refuse_taken(settings.host, settings.port)
        system = System(settings, told)
        try:
            system.start(say)
            system.watch(say)
        except KeyboardInterrupt:
            say("Stopping …")
        finally:
            interrupts.begin_ending()
            system.end(say, interrupts.hurry)


class System:
    """The processes of one ``up``, and the record of them for other commands."""

    def __init__(self, settings: Settings, told: dict[str, str]) -> None:
        self.settings = settings
        self.token = secrets.token_hex(8)
        self.told = told | {TOKEN_VARIABLE: self.token}
        self.logs = home.prefect() / "logs"
        self.server = self._child("server", "server", "start")
        self.worker = self._child("worker", "worker", "start", "--pool", POOL, "--name", worker_name())
        self.started: list[Child] = []
        self.ready = False
        self.reaping: Reaping | None = None

    def start(self, say: Say) -> None:
        say("Starting the server …")
        self._start(self.server)
        os.environ.update(self.told)  # prefect reads it when it is first imported, from here on
        from histoflow_flows.service import deploying, preparing

        slots = self.settings.gpu_slots or max(visible_gpus(), 1)
        _wait(lambda: answers(self.settings.api_url), "server to answer", self.server)
        self.ready = True
        self._note()
        preparing.ensure_pool(own_worker=self.settings.worker)
        preparing.ensure_limit(slots)
        since = datetime.now(UTC)
        if self.settings.worker:
            say("Starting the worker …")
            self._start(self.worker)
        _deploy(deploying.deploy, say)
        if self.settings.worker:
            _wait(lambda: preparing.has_reported(worker_name(), since), "worker to report", self.worker)
        self._start_reaping(say)
        for line in self._welcome(slots):
            say(line)

    def watch(self, say: Say) -> None:
        while True:
            restarted = [child for child in self.started if child.tend(say)]
            if restarted:
                self._note()
            time.sleep(_POLL_SECONDS)

    def end(self, say: Say, hurry: Event) -> None:
        if self.reaping is not None:
            self.reaping.stop()
        end_all(self._record(), say, hurry)

    def _child(self, name: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", "prefect", *arguments]
        return Child(name, command, self.told, self.logs / f"{name}.log")

    def _start(self, child: Child) -> None:
        if child.log.exists():
            child.log.replace(child.log.with_suffix(".previous.log"))
        child.start()
        self.started.append(child)
        self._note()

    def _note(self) -> None:
        record.write(self._record())

    def _record(self) -> Record:
        running = {child.name: child.pid for child in self.started if child.ended() is None}
        return Record(
            token=self.token,
            url=self.settings.url,
            secured="PREFECT_API_AUTH_STRING" in self.told,
            ready=self.ready,
            processes={name: Mark.of(pid) for name, pid in {"up": os.getpid(), **running}.items()},
        )

    def _start_reaping(self, say: Say) -> None:
        from histoflow_flows.reaper import Reaper

        self.reaping = Reaping(Reaper().sweep, say)
        self.reaping.start()

    def _welcome(self, slots: int) -> Iterator[str]:
        yield f"\nUI:      {self.settings.url}"
        yield f"Server:  {self.logs / 'server.log'}"
        if self.settings.worker:
            yield f"Worker:  {self.logs / 'worker.log'}"
        yield f"Slots:   {slots} in the concurrency limit '{POOL}'"
        yield "\nIn another terminal:"
        yield f"  export PREFECT_API_URL={self.settings.api_url}"
        if "PREFECT_API_AUTH_STRING" in self.told:
            yield "  export PREFECT_API_AUTH_STRING=…   (the server's own)"
        yield "  export PREFECT_PLUGINS_ENABLED=1"
        yield "  prefect deployment run train-flow"
        yield "\nCtrl-C stops everything."


def worker_name() -> str:
    return f"up on {platform.node()}"


def down(say: Say) -> None:
    """End the ``up`` of this home, or what a killed one left behind."""
    found = record.read()
    if found is None:
        say("Nothing is running.")
        return
    up = found.processes["up"].process()
    with _interrupts() as interrupts:
        interrupts.begin_ending()
        if up is None:
            say("Ending what a killed 'histoflow up' left behind …")
            end_all(found, say, interrupts.hurry)
        else:
            _end_up(up, interrupts.hurry)
    say("Stopped.")


def _end_up(up: psutil.Process, hurry: Event) -> None:
    """Have the ``up`` end its own, and pass a hurry on to it."""
    up.send_signal(signal.SIGTERM)
    while up.is_running():
        if hurry.wait(_POLL_SECONDS):
            hurry.clear()
            up.send_signal(signal.SIGTERM)


def answers(api_url: str) -> bool:
    try:
        return httpx.get(f"{api_url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _deploy(deploy: Callable[[], list[str]], say: Say) -> None:
    """An old deployment that cannot be renewed is mended in the UI, so the UI must come up."""
    say("Deploying …")
    try:
        deploy()
    except HistoflowError as error:
        say(f"The deployments stay as they were. {error}")


def _wait(done: Callable[[], bool], what: str, child: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not done():
        child.must_live()
        if time.monotonic() > deadline:
            raise HistoflowError(
                f"Waited {_START_SECONDS:g} s in vain for the {what}. Look into its log {child.log}, and "
                f"for causes with: histoflow up --check"
            )
        time.sleep(_POLL_SECONDS)


@contextmanager
def _only_one() -> Iterator[None]:
    """Refuse a second ``up`` of one home, and to start over what a killed one left."""
    lock = FileLock(home.prefect() / "up.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        raise UserError(_already_up()) from None
    with held:
        left = record.read()
        if left is not None and record.members(left):
            raise UserError(
                "A 'histoflow up' was killed and left processes behind. End them with: histoflow down"
            )
        yield


def _already_up() -> str:
    found = record.read()
    where = f" at {found.url}" if found is not None else ""
    return (
        f"'histoflow up' already runs for the home {home.folder()}{where}. Stop it with 'histoflow down', or "
        f"set {home.VARIABLE} to another folder."
    )


class _Interrupts:
    """The first Ctrl-C or SIGTERM raises KeyboardInterrupt; each later one only says to hurry."""

    def __init__(self) -> None:
        self.hurry = Event()
        self._ending = False

    def begin_ending(self) -> None:
        """From here on nothing is interrupted any more."""
        self._ending = True

    def handle(self, *_: Any) -> None:
        if self._ending:
            self.hurry.set()
        else:
            self._ending = True
            raise KeyboardInterrupt


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    interrupts = _Interrupts()
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, interrupts.handle) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
