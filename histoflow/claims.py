"""What one process holds and no other may, until it ends, however it ends.

On one machine the kernel knows: it frees a lock with the process that held it, also after ``kill -9``.
Another machine that shares the folder may not learn of the lock, so the holder also touches a file every
few seconds; one that was not touched for a while is nobody's.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

BEAT = 5.0
"""Seconds between two touches."""
STALE = 30.0
"""Seconds after which a claim of another machine is nobody's."""
_LOOKERS_MAY_TAKE = 2.0
"""Seconds: who only looks at a claim holds its lock for a moment, and must not stop its taking."""

log = logging.getLogger("histoflow")


class Holder(BaseModel):
    """Who holds a claim."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is a known process of this machine."""
        return self.pid > 0 and self.host == socket.gethostname()


UNKNOWN = Holder(host="this machine", pid=0)


class ClaimedError(Exception):
    def __init__(self, holder: Holder) -> None:
        super().__init__(str(holder))
        self.holder = holder


class Claim:
    """A claim by its path, to which ``.lock`` and ``.beat`` are added; one process may take it again."""

    def __init__(self, path: Path) -> None:
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._beat_path = path.with_name(f"{path.name}.beat")
        self._ended = threading.Event()

    @cached_property
    def _lock(self) -> FileLock:
        return FileLock(self._lock_path, thread_local=False, is_singleton=True)

    def take(self) -> None:
        """Hold it until it is given up as often as it was taken, or the process ends."""
        try:
            self._lock.acquire(timeout=_LOOKERS_MAY_TAKE)
        except Timeout:
            raise ClaimedError(self._read_beat() or UNKNOWN) from None
        if (elsewhere := self._holder_elsewhere()) is not None:
            self._lock.release()
            raise ClaimedError(elsewhere)
        if self._lock.lock_counter == 1:
            self._beat_path.write_text(_me().model_dump_json(), encoding="utf-8")
            self._ended = threading.Event()
            threading.Thread(
                target=self._touch_until, args=[self._ended], name=f"touch {self._beat_path}", daemon=True
            ).start()

    def give_up(self) -> None:
        if self._lock.lock_counter == 1:
            self._ended.set()
            if self._read_beat() == _me():
                self._beat_path.unlink(missing_ok=True)
        self._lock.release()

    def _touch_until(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT):
            self._refuse_to_share()
            try:
                os.utime(self._beat_path)
            except FileNotFoundError:
                return  # its folder was deleted
            except OSError as error:
                log.warning("%s cannot be touched: %s. Other machines may take it.", self._beat_path, error)

    def _refuse_to_share(self) -> None:
        """A machine that slept may find that another one has gone on with the work."""
        found = self._read_beat()
        if found is not None and found != _me():
            log.critical(
                "%s was taken by %s while this process was suspended; it ends.", self._beat_path, found
            )
            os._exit(1)  # at once: whatever it still wrote would tear the other's work

    def holder(self) -> Holder | None:
        """Who holds it; None if nobody does, or this process."""
        if not self.exists():
            return None
        try:
            with self._lock.acquire(timeout=0):
                return self._holder_elsewhere()
        except Timeout:
            return self._read_beat() or UNKNOWN

    def exists(self) -> bool:
        """Whether it was ever taken, and not forgotten."""
        return self._lock_path.exists() or self._beat_path.exists()

    def forget(self) -> None:
        """Remove its files, which nobody needs any more."""
        self._beat_path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)

    def _holder_elsewhere(self) -> Holder | None:
        """A holder on another machine that was alive a moment ago."""
        holder = self._read_beat()
        if holder is None or holder.host == socket.gethostname():
            return None
        return holder if _age(self._beat_path) < STALE else None

    def _read_beat(self) -> Holder | None:
        try:
            return Holder.model_validate_json(self._beat_path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValidationError):
            return None


def _me() -> Holder:
    return Holder(host=socket.gethostname(), pid=os.getpid())


def _age(path: Path) -> float:
    """Seconds since it was touched, by the clock of the file system that keeps it."""
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return STALE
    with tempfile.TemporaryFile(dir=path.parent) as probe:
        return os.fstat(probe.fileno()).st_mtime - touched
