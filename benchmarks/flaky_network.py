"""A network that can be cut: a TCP relay before a server."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class FlakyNetwork:
    """Passes bytes between its own port and a server's; while cut, connections break and are refused."""

    def __init__(self, server_port: int) -> None:
        self._server = ("127.0.0.1", server_port)
        self._whole = threading.Event()
        self._whole.set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()
        for end in list(self._open):
            with suppress(OSError):  # the other side may have closed it in this moment
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole.set()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self._whole.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(self._server, timeout=5)
            except OSError:  # the server is down: so is its relay
                near.close()
                continue
            far.settimeout(None)
            for source, target in ((near, far), (far, near)):
                self._open.add(source)
                threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass  # broken on purpose, or by the server's end
        finally:
            self._open.discard(source)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            source.close()
