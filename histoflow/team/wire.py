"""What the members of a team and the process that leads it tell one another.

Each member connects to the leader, whose address it finds in its environment. A connection that ends
tells either side that the other one is gone, however it went.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from queue import Queue
from secrets import token_bytes
from typing import Any

from histoflow.progress import Advance, Figures

_ADDRESS, _KEY = "HISTOFLOW_TEAM_ADDRESS", "HISTOFLOW_TEAM_KEY"
_ADVANCES_EVERY = 0.1
"""Seconds between two messages about the same piece of work."""


# ── From the leader ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Order:
    """What to train: sent to each member first."""

    experiment: Mapping[str, Any]
    packed: str
    profile: bool


@dataclass(frozen=True)
class GoOn:
    """The epoch was seen; the next one may begin."""


@dataclass(frozen=True)
class Stop:
    """End after a checkpoint."""


# ── From the members: the first one tells how it goes, each of them why it failed ───────────────


@dataclass(frozen=True)
class Began:
    title: str
    total: int | None
    unit: str


@dataclass(frozen=True)
class Advanced:
    amount: int


@dataclass(frozen=True)
class Ended:
    """The piece of work that began last."""


@dataclass(frozen=True)
class Told:
    figures: Figures


@dataclass(frozen=True)
class Said:
    message: str


@dataclass(frozen=True)
class EpochDone:
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """``kind`` names the error where histoflow raises it on purpose; it is None for any other."""

    rank: int
    kind: str | None
    message: str


class Telling:
    """The listener that passes on all it hears."""

    def __init__(self, line: Connection[Any, Any]) -> None:
        self._line = line

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        waiting, told = 0, time.monotonic()

        def advance(amount: int = 1) -> None:
            nonlocal waiting, told
            waiting += amount
            now = time.monotonic()
            if now - told >= _ADVANCES_EVERY:
                self._line.send(Advanced(waiting))
                waiting, told = 0, now

        self._line.send(Began(title, total, unit))
        yield advance
        self._line.send(Advanced(waiting))
        self._line.send(Ended())

    def tell(self, figures: Figures) -> None:
        self._line.send(Told(dict(figures)))

    def say(self, message: str) -> None:
        self._line.send(Said(message))


def call_leader() -> Connection[Any, Any] | None:
    """A connection to the leader; None where nobody leads but this process itself."""
    address, key = os.environ.pop(_ADDRESS, None), os.environ.pop(_KEY, None)
    return None if address is None or key is None else Client(address, authkey=bytes.fromhex(key))


class Switchboard:
    """The leader's side: what any of the members says comes into one queue."""

    def __init__(self, order: Order) -> None:
        self.inbox: Queue[Any] = Queue()
        self._order = order
        self._key = token_bytes(32)
        self._listener = Listener(authkey=self._key)
        self._lines: list[Connection[Any, Any]] = []
        self._is_open, self._is_over = True, False
        self._speaking = threading.Lock()
        threading.Thread(target=self._accept, name="team: accept", daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """By which a member finds here."""
        return {_ADDRESS: str(self._listener.address), _KEY: self._key.hex()}

    def tell_all(self, message: GoOn | Stop) -> None:
        """Those that have not called yet are told of the end once they do."""
        with self._speaking:
            self._is_over = self._is_over or isinstance(message, Stop)
            for line in self._lines:
                _send(line, message)

    def close(self) -> None:
        self._is_open = False
        with suppress(OSError):  # a connection is what wakes the thread that waits for one
            Client(self._listener.address, authkey=self._key).close()
        self._listener.close()
        for line in self._lines:
            line.close()

    def _accept(self) -> None:
        while self._is_open:
            try:
                line = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):  # whoever called was no member, or is gone
                continue
            with self._speaking:
                self._lines.append(line)
                _send(line, self._order)
                if self._is_over:
                    _send(line, Stop())
            threading.Thread(target=self._read, args=[line], name="team: read", daemon=True).start()

    def _read(self, line: Connection[Any, Any]) -> None:
        with suppress(OSError, EOFError):  # the launcher tells how the member ended
            while True:
                self.inbox.put(line.recv())


def _send(line: Connection[Any, Any], message: object) -> None:
    with suppress(OSError):  # the member is gone, and the launcher tells how
        line.send(message)
