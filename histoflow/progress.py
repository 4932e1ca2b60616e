"""How long work tells where it stands, without knowing who listens.

A stage says ``with progress.track("Packing", total=n) as step: step()``. Who runs the stage
decides what becomes of it: the command line draws bars; where nobody listens it goes to the log.
What the work has come to so far, it tells with ``progress.tell({"loss": "0.412"})`` now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

log = logging.getLogger("histoflow")


Figures = Mapping[str, str]
"""By name, as a person reads them: loss → 0.412."""


class Advance(Protocol):
    def __call__(self, amount: int = 1) -> None: ...


class Listener(Protocol):
    """Shows progress somewhere: told of each piece of work, of its figures, and of each line worth saying."""

    def track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Advance]: ...

    def tell(self, figures: Figures) -> None: ...

    def say(self, message: str) -> None: ...


class LogListener:
    """Writes a line every 30 s, and at the end of each piece of work that took ``worth_telling`` seconds."""

    def __init__(
        self,
        every: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        worth_telling: float = 0.0,
    ) -> None:
        self._every = every
        self._clock = clock
        self._worth_telling = worth_telling
        self._figures: Figures = {}

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        begin = spoken = self._clock()
        done = told = 0

        def advance(amount: int = 1) -> None:
            nonlocal done, told, spoken
            now = self._clock()
            if not done:  # what comes first may have been done before, by work that goes on where it was
                told, spoken = amount, now
            done += amount
            if now - spoken >= self._every:
                self.say(self._line(title, done, total, unit, (done - told) / (now - spoken)))
                told, spoken = done, now

        yield advance
        seconds = self._clock() - begin
        if seconds >= self._worth_telling:
            self.say(f"{title}: {done:,} {unit} in {seconds:.1f} s")

    def tell(self, figures: Figures) -> None:
        self._figures = figures

    def say(self, message: str) -> None:
        log.info(message)

    def _line(self, title: str, done: int, total: int | None, unit: str, speed: float) -> str:
        left = [f"about {duration((total - done) / speed)} left"] if total and speed and done < total else []
        figures = [f"{name} {value}" for name, value in self._figures.items()]
        return ", ".join([f"{title}: {amount(done, total)} {unit}", rate(speed, unit), *left, *figures])


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


def tell(figures: Figures) -> None:
    """The latest figures of the work under way, in the place of those told before; none once it is over."""
    _listener.get().tell(figures)


Batch = TypeVar("Batch", bound=tuple[Any, Sized])


def counted(batches: Iterable[Batch], advance: Advance) -> Iterator[Batch]:
    """The same batches of (images, labels), each reported once it has been worked on."""
    for batch in batches:
        yield batch
        advance(len(batch[1]))


def say(message: str) -> None:
    _listener.get().say(message)


def amount(done: int, total: int | None) -> str:
    return f"{done:,} of {total:,}" if total else f"{done:,}"


def rate(per_second: float, unit: str) -> str:
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.1f} {unit}/s"


def duration(seconds: float) -> str:
    """In steps that a reader can use: nobody needs the seconds of an hour."""
    rounded = round(seconds) if seconds < 60 else round(seconds / 5) * 5
    if rounded >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"{hours} h {minutes} min"
    minutes, rest = divmod(rounded, 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
