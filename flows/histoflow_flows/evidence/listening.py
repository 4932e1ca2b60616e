"""Passes what the work says on to the flow run's log, and its progress to whoever watches."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from histoflow import progress
from histoflow.progress import Advance, Figures, Listener, LogListener
from histoflow_flows.evidence.posting import Log


@dataclass
class Piece:
    """A piece of work under way."""

    title: str
    total: int | None
    unit: str
    done: int = 0
    begun: float = field(default_factory=time.monotonic)
    figures: Figures = field(default_factory=dict)
    """The latest told of it."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


class Watcher(Protocol):
    """Told of each piece of work, and of each step in it, which must cost it next to nothing."""

    def began(self, piece: Piece) -> None: ...

    def moved(self) -> None: ...

    def ended(self, piece: Piece) -> None: ...


class RunListener:
    """Tells the run's log, the watcher, and who listened before, such as the terminal's bars.

    Within a task of a flow it takes the place of the flow's own: a line is logged once.
    """

    def __init__(self, outer: Listener, log: Log, watcher: Watcher) -> None:
        self._outer: Listener | None
        self._outer = outer._outer if isinstance(outer, RunListener) else _unless_log(outer)
        self._log, self._watcher = log, watcher
        self._piece: Piece | None = None

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        piece, moved = Piece(title, total, unit), self._watcher.moved
        self._piece = piece
        self._watcher.began(piece)
        with self._outer_track(title, total, unit) as pass_on:

            def advance(amount: int = 1) -> None:
                piece.done += amount
                pass_on(amount)
                moved()

            yield advance
        self._watcher.ended(piece)

    def tell(self, figures: Figures) -> None:
        if self._piece:
            self._piece.figures = figures
        if self._outer:
            self._outer.tell(figures)

    def say(self, message: str) -> None:
        self._log.info("%s", message)
        if self._outer:
            self._outer.say(message)

    def _outer_track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return self._outer.track(title, total, unit) if self._outer else nullcontext(_to_nobody)


def _unless_log(listener: Listener) -> Listener | None:
    """What goes to the library's log is forwarded to the run's log anyway."""
    return None if type(listener) is LogListener else listener


def _to_nobody(amount: int = 1) -> None: ...


class _Forward(logging.Handler):
    """Sends the library's log records to the run's log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, "%s", record.getMessage(), exc_info=record.exc_info)


@contextmanager
def listening(log: Log, watcher: Watcher) -> Iterator[None]:
    """All that histoflow says inside reaches the run's log."""
    with _forwarding(log), progress.listening(RunListener(progress.current(), log, watcher)):
        yield


@contextmanager
def _forwarding(log: Log) -> Iterator[None]:
    others = [handler for handler in progress.log.handlers if isinstance(handler, _Forward)]
    progress.log.handlers = [*(h for h in progress.log.handlers if h not in others), forward := _Forward(log)]
    try:
        yield
    finally:
        progress.log.removeHandler(forward)
        for other in others:
            progress.log.addHandler(other)
