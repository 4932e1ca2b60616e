"""A headless Chromium that opens pages as they are, and is asked about them by the DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

COMMAND = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 60.0


class Browser:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._asked = 0
        self.ask("Page.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._asked += 1
        self._connection.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        reply = self._wait_for("id", self._asked)
        assert "error" not in reply, f"{method}: {reply['error']}"
        found: dict[str, Any] = reply["result"]
        return found

    def _wait_for(self, key: str, value: object) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=_PATIENCE))
            if message.get(key) == value:
                return message

    def open(
        self, page: Path, width: int, height: int = 900, *, dark: bool = False, printed: bool = False
    ) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=[scheme])
        self.ask("Page.navigate", url=page.absolute().as_uri())
        self._wait_for("method", "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Of an expression in the page; its Content-Security-Policy does not bind the debugger."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def picture(self) -> bytes:
        """A PNG of the whole page."""
        return b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Ends with the block; what it keeps goes into the folder."""
    command = [
        str(COMMAND), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(folder, process), max_size=None) as connection:
            yield Browser(connection)
    finally:
        process.terminate()
        process.wait(timeout=_PATIENCE)


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Of a tab. Chromium writes its port, and the path to the browser as a whole, once it listens."""
    note = folder / "DevToolsActivePort"
    end = time.monotonic() + _PATIENCE
    while not (note.is_file() and len(note.read_text().splitlines()) == 2):
        assert process.poll() is None, f"{COMMAND} ended with {process.returncode}"
        assert time.monotonic() < end, f"{COMMAND} did not begin to listen within {_PATIENCE:g} s"
        time.sleep(0.05)
    port, path = note.read_text().splitlines()
    with connect(f"ws://127.0.0.1:{port}{path}") as whole:
        whole.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = json.loads(whole.recv(timeout=_PATIENCE))["result"]["targetId"]
    return f"ws://127.0.0.1:{port}/devtools/page/{target}"
