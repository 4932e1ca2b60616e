"""Child processes that are started again when they end by themselves."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from histoflow.errors import HistoflowError

Say = Callable[[str], None]

_FIRST_DELAY = 1.0
_LONGEST_DELAY = 60.0
_STEADY_SECONDS = 60.0
"""A child that ran so long is not failing to start; its next restart is quick again."""


@dataclass
class Child:
    """A process in a session of its own, so that a terminal's Ctrl-C does not reach it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _delay: float = _FIRST_DELAY
    _due: float | None = field(default=None)

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started, self._due = time.monotonic(), None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"the {self.name} was not started"
        return self._process.pid

    def ended(self) -> int | None:
        """The exit status of the process, once it has ended."""
        assert self._process is not None, f"the {self.name} was not started"
        return self._process.poll()

    def must_live(self) -> None:
        if self.ended() is not None:
            raise HistoflowError(
                f"The {self.name} ended as it started (exit status {self.ended()}). Its last words:\n"
                f"{tail(self.log)}\nThe whole log: {self.log}. Look for causes with: histoflow up --check"
            )

    def tend(self, say: Say) -> bool:
        """Start the process again if it ended, later each time; returns whether it was started now."""
        now = time.monotonic()
        if self.ended() is None:
            if now - self._started > _STEADY_SECONDS:
                self._delay = _FIRST_DELAY
            return False
        if self._due is None:
            say(
                f"The {self.name} ended by itself (exit status {self.ended()}) and is started again in "
                f"{self._delay:g} s. Its log: {self.log}"
            )
            self._due, self._delay = now + self._delay, min(2 * self._delay, _LONGEST_DELAY)
        elif now >= self._due:
            self.start()
            return True
        return False


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
