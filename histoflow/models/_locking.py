"""Processes that work on one model wait for each other, but not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from histoflow.errors import RunError

PATIENCE = {"changing": 60.0, "registering": 600.0}
"""Seconds: either takes far less, so whoever holds the lock for longer is stuck."""
_USUAL = {"changing": "milliseconds", "registering": "seconds"}


@contextmanager
def alone(line: Path, doing: str) -> Iterator[None]:
    """No other process does this to the model for now."""
    lock = FileLock(line / f".{doing}.lock")
    try:
        lock.acquire(timeout=PATIENCE[doing])
    except Timeout:
        raise RunError(
            f"Model '{line.name}' has been held by another process for {PATIENCE[doing]:g} s; "
            f"{doing} it takes {_USUAL[doing]} otherwise. Find out what hangs, and try again."
        ) from None
    try:
        yield
    finally:
        lock.release()
