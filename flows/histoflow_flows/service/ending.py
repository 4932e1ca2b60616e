"""Ends all processes of an ``up``: first the flow runs, which get time to save, then worker and server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING

from histoflow_flows.service.children import Say
from histoflow_flows.service.record import Mark, Record, forget, members, variable

if TYPE_CHECKING:
    import psutil

GRACE_SECONDS = 60.0
"""How long running flow runs may take to save their work."""

_SERVICE_SECONDS = 10.0
"""How long the worker, and then the server, may take."""

_FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"


def end_all(record: Record, say: Say, hurry: Event) -> None:
    """End every process of this ``up`` but itself, and forget it; ``hurry`` cuts the waiting short.

    The server and the worker go last: a flow run that ends has its last news to tell. A worker that is
    ended first would kill its flow runs without a word.
    """
    _end_flow_runs(record, say, hurry)
    for name in ("worker", "server"):
        if name in record.processes:
            _end(record.processes[name], hurry)
    for process in members(record):
        _signal(process, signal.SIGKILL)
    _until(lambda: not members(record), _SERVICE_SECONDS, Event())
    forget()


def _end_flow_runs(record: Record, say: Say, hurry: Event) -> None:
    """Ask each flow run to end, also those that the worker starts meanwhile; wait for their hooks, too."""
    asked: set[int] = set()

    def all_ended() -> bool:
        processes = _of_flow_runs(record)
        fresh = [process for process in processes if _leads_its_session(process) and process.pid not in asked]
        if fresh:
            say(f"Waiting for {_count(len(fresh))} to save and end; Ctrl-C ends at once.")
        for process in fresh:
            _signal(process, signal.SIGTERM)
            asked.add(process.pid)
        return not processes

    if not _until(all_ended, GRACE_SECONDS, hurry):
        left = _of_flow_runs(record)
        say("Not all flow runs have ended; what is left of them is killed.")
        for process in left:
            _signal(process, signal.SIGKILL)


def _of_flow_runs(record: Record) -> list[psutil.Process]:
    return [process for process in members(record) if variable(process, _FLOW_RUN_VARIABLE)]


def _end(mark: Mark, hurry: Event) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = mark.process()
        if process is None:
            return
        _signal(process, number)
        _until(
            lambda: mark.process() is None, _SERVICE_SECONDS, hurry if number == signal.SIGTERM else Event()
        )


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Send the signal, unless the process is gone or its number is another's by now."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _until(done: Callable[[], bool], seconds: float, hurry: Event) -> bool:
    """Wait until it is done; False when time is up or there is a hurry."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline or hurry.wait(0.2):
            return False
    return True


def _leads_its_session(process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == int(process.pid)
    except ProcessLookupError:
        return False


def _count(number: int) -> str:
    return "1 flow run" if number == 1 else f"{number} flow runs"
