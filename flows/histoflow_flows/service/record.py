"""The record of ``histoflow up``: where its server is, and which processes are its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from histoflow import home
from histoflow.errors import UserError
from histoflow.files import write_text

if TYPE_CHECKING:
    import psutil

TOKEN_VARIABLE = "HISTOFLOW_UP_TOKEN"  # noqa: S105 - it marks processes and opens nothing
"""Stands in the environment of every process that descends from one ``up``."""

_CLOCK_SECONDS = 2.0
"""A process's start, told twice, may differ by this much where the clock was set in between."""


class Mark(BaseModel):
    """One process, told from a later one that was given the same number."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Mark:
        import psutil

        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _CLOCK_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)

    token: str
    url: str
    secured: bool
    """Whether its API asks for a password, which is written nowhere."""
    ready: bool = False
    """Whether its server has answered."""
    processes: Mapping[str, Mark]

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def is_live(self) -> bool:
        """Whether the ``up`` that wrote it still runs."""
        return self.processes["up"].process() is not None


def path() -> Path:
    return home.folder() / "prefect" / "up.json"


def write(record: Record) -> None:
    write_text(path(), record.model_dump_json(indent=2) + "\n")


def read() -> Record | None:
    """What the last ``up`` wrote, unless it ended cleanly."""
    try:
        return Record.model_validate_json(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError:
        raise UserError(
            f"{path()} is not a record that this histoflow can read. If nothing of 'histoflow up' runs any "
            f"more, delete it."
        ) from None


def forget() -> None:
    path().unlink(missing_ok=True)


def live() -> Record | None:
    """The record of an ``up`` of this home that runs and whose server has answered."""
    record = read()
    return record if record is not None and record.ready and record.is_live else None


def connection() -> dict[str, str]:
    """The variables that lead Prefect to the server of a live ``up``; none where none runs."""
    found = live()
    if found is None:
        return {}
    secret = os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "") if found.secured else ""
    return {"PREFECT_API_URL": found.api_url} | ({"PREFECT_API_AUTH_STRING": secret} if secret else {})


def members(record: Record) -> list[psutil.Process]:
    """Every process that descends from this ``up`` and still runs, orphans too, but not ``up`` itself."""
    import psutil

    marked = [mark.process() for name, mark in record.processes.items() if name != "up"]
    found = {process.pid: process for process in marked if process is not None}
    for process in psutil.process_iter():
        if variable(process, TOKEN_VARIABLE) == record.token and process.pid != os.getpid():
            found[process.pid] = process
    return list(found.values())


def variable(process: psutil.Process, name: str) -> str | None:
    """A variable of the process's environment; None where it is gone or not ours to look at."""
    import psutil

    try:
        value: str | None = process.environ().get(name)
    except (psutil.Error, OSError):
        return None
    return value
