"""Gives up a process that hangs: one that waits for a dead file system or driver cannot be asked to end."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from histoflow import progress

Item = TypeVar("Item")
_REST = 1.0
"""Seconds between two windings of the clock, which cost more than a step should."""


class Watchdog:
    """Ends the process, with the stacks of its threads written down, once nothing beats for too long.

    The clock is the interpreter's own (``faulthandler``) and runs even while a thread blocks all others.
    There is one to a process: where several threads train, it strikes when all of them hang.
    """

    def __init__(self, limit: float | None, record: TextIO) -> None:
        self._limit = limit
        self._record = record
        self._wound = 0.0

    def beat(self) -> None:
        now = time.monotonic()
        if self._limit is not None and now - self._wound >= _REST:
            self._wound = now
            faulthandler.dump_traceback_later(self._limit + _REST, exit=True, file=self._record)

    def rest(self) -> None:
        """Expect nothing until the next beat."""
        self._wound = 0.0
        faulthandler.cancel_dump_traceback_later()

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, each of which shows that there is life."""
        for item in items:
            self.beat()
            yield item


@contextmanager
def watching(limit: float | None, record: Path) -> Iterator[Watchdog]:
    """A watchdog that writes into this file, which stays only where it has struck."""
    if record.exists() and record.stat().st_size:
        progress.say(f"An earlier session hung and was given up; {record} tells where.")
    with record.open("a", encoding="utf-8") as file:
        watchdog = Watchdog(limit, file)
        watchdog.beat()
        try:
            yield watchdog
        finally:
            faulthandler.cancel_dump_traceback_later()
            if record.stat().st_size == 0:
                record.unlink()
