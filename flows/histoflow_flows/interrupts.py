"""Ends what runs, once and cleanly, when a person or the system asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(BaseException):
    """Work was ended by Ctrl-C or SIGTERM; the message says how to go on."""


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into Interrupted, and let nothing disturb the cleaning up after it.

    Whatever else fails from then on (a server in the same terminal got the signal, too) follows from the
    interruption and is told as such.
    """
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        asked = True
        for number in former:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        if asked:
            raise Interrupted(f"Interrupted. {advice}") from error
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
