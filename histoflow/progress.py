"""How long work tells where it stands, without knowing who listens.

A stage says ``with progress.track("Packing", total=n) as step: step()``. Who runs the stage
decides what becomes of it: the command line draws bars; where nobody listens it goes to the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

log = logging.getLogger("histoflow")


class Advance(Protocol):
    def __call__(self, amount: int = 1) -> None: ...


class Listener(Protocol):
    """Shows progress somewhere: told of each piece of work, and of each line worth saying."""

    def track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Advance]: ...

    def say(self, message: str) -> None: ...


class LogListener:
    """Writes a line at the start and the end of each piece of work, and every 30 s between."""

    def __init__(self, every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        begin = spoken = self._clock()
        done = 0

        def advance(amount: int = 1) -> None:
            nonlocal done, spoken
            done += amount
            if self._clock() - spoken >= self._every:
                spoken = self._clock()
                self.say(f"{title}: {done}{f' of {total}' if total else ''} {unit}")

        yield advance
        self.say(f"{title}: {done} {unit} in {self._clock() - begin:.1f} s")

    def say(self, message: str) -> None:
        log.info(message)


_listener: ContextVar[Listener] = ContextVar("histoflow_progress", default=LogListener())  # noqa: B039


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside to this listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def current() -> Listener:
    """Who listens here, for one that passes on to it."""
    return _listener.get()


def track(title: str, total: int | None = None, unit: str = "images") -> AbstractContextManager[Advance]:
    return _listener.get().track(title, total, unit)


Batch = TypeVar("Batch", bound=tuple[Any, Sized])


def counted(batches: Iterable[Batch], advance: Advance) -> Iterator[Batch]:
    """The same batches of (images, labels), each reported once it has been worked on."""
    for batch in batches:
        yield batch
        advance(len(batch[1]))


def say(message: str) -> None:
    _listener.get().say(message)
