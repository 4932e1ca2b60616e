"""How work is asked to end: at the next place where nothing is half done.

A signal may arrive between any two instructions, also inside an optimizer's step. Inside ``deferred``
Ctrl-C and SIGTERM therefore only leave word: the work looks at ``asked()`` after each step, saves what it
has, and calls ``give_way()``, which lets the signal do what it would have done. Work that does not come
to such a place in time is interrupted where it is, and so is work that is asked a second time.

Signals reach the main thread alone. Where it waits for work in other threads it holds them in
``announced``: the signal passes at once, and the threads find that they are asked to end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from histoflow.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds until work that was asked to end is interrupted where it is."""

_word = threading.Event()
_held: list[_Held] = []


class _Held:
    """The handlers that stood before, and the signal that waits for its turn."""

    def __init__(self, patience: float | None) -> None:
        self._patience = patience
        self._waiting: int | None = None
        self._alarm: threading.Timer | None = None
        self._former: dict[int, Any] = {}

    def take(self) -> None:
        self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def put_back(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        former, self._former = self._former, {}  # once: who got the signal may have set handlers of its own
        for number, handler in former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        _word.set()
        if self._patience is None or self._waiting is not None:
            self.let_through(number)
            return
        self._waiting = number
        self._alarm = threading.Timer(self._patience, os.kill, (os.getpid(), number))
        self._alarm.daemon = True
        self._alarm.start()

    def let_through(self, number: int | None = None) -> None:
        number = number or self._waiting
        if number is not None:
            self._waiting = None
            self.put_back()
            signal.raise_signal(number)


@contextmanager
def deferred(patience: float = PATIENCE) -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back inside, until the work gives way, is done, or is too long in coming."""
    with _holding(_Held(patience)):
        yield
    if not _held:
        _word.clear()


@contextmanager
def announced() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM through at once, but tell the work in other threads."""
    with _holding(_Held(None)):
        yield


@contextmanager
def _holding(held: _Held) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # the main thread holds the signals, or nobody does
        return
    if not _held:
        _word.clear()
    _held.append(held)
    held.take()
    try:
        yield
    finally:
        _held.remove(held)
        held.put_back()
    held.let_through()


def asked() -> bool:
    """Whether this process was asked to end what it does."""
    return _word.is_set()


def give_way() -> NoReturn:
    """End here: by the signal that waits, or in a thread by ``Stopped``."""
    if _held and threading.current_thread() is threading.main_thread():
        _held[-1].let_through()
    raise Stopped("Training was asked to stop and ended after a checkpoint, from which it can go on.")
