"""Work that goes on in a process of its own, a piece at a time, so that nothing it sets changes its rivals:
threads, how memory is handed out, which algorithms are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Generic, TypeVar

Piece = TypeVar("Piece")


class OwnProcess(Generic[Piece]):
    """Calling it does the next piece of the work and returns what that yields.

    ``work`` is a function of a module, for the process starts afresh and imports it.
    """

    def __init__(self, work: Callable[..., Iterator[Piece]], *args: Any, **named: Any) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work, args, named))
        self._process.start()
        theirs.close()

    def ask(self) -> None:
        """Have it begin the next piece."""
        self._ours.send(True)

    def take(self) -> Piece:
        """What the piece that was asked for came to, once it is done."""
        made: Piece = self._ours.recv()
        return made

    def __call__(self) -> Piece:
        self.ask()
        return self.take()

    def __enter__(self) -> OwnProcess[Piece]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(BrokenPipeError):
            self._ours.send(False)
        self._process.join()


def _serve(theirs: Connection, work: Callable[..., Iterator[Any]], args: Any, named: Any) -> None:
    pieces = work(*args, **named)
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while theirs.recv():
            theirs.send(next(pieces))
