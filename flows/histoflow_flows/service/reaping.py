"""Has the reaper look for lost runs at regular times."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

from histoflow_flows.service.children import Say

EVERY_SECONDS = 10.0


class Reaping(Thread):
    """Sweeps until it is told to stop; what goes wrong is said once, and tried again."""

    def __init__(self, sweep: Callable[[], list[str]], say: Say, every: float = EVERY_SECONDS) -> None:
        super().__init__(name="histoflow-reaper", daemon=True)
        self._sweep, self._say, self._every = sweep, say, every
        self._stopping = Event()
        self._failing = False

    def run(self) -> None:
        while not self._stopping.wait(self._every):
            self._pass()

    def stop(self, seconds: float = 5.0) -> None:
        """Begin no further pass, and let the one under way come to its end."""
        self._stopping.set()
        self.join(seconds)

    def _pass(self) -> None:
        try:
            lines = self._sweep()
        except Exception as error:
            if not self._failing and not self._stopping.is_set():
                self._say(
                    f"Lost runs could not be looked for ({type(error).__name__}: {error}). "
                    f"Trying again every {self._every:g} s."
                )
            self._failing = True
            return
        self._failing = False
        for line in lines:
            self._say(line)
