"""A network that can be cut: passes TCP connections on to a port of this machine, refuses or swallows them."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Listens on a port of its own until closed."""

    def __init__(self, target_port: int) -> None:
        self._target = ("127.0.0.1", target_port)
        self._passing = True
        self._connections: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def refuse(self) -> None:
        """As when the server's process is gone: connections break, new ones are refused."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_connections()

    def swallow(self) -> None:
        """As when a cable is pulled: whatever is sent, no answer comes."""
        self._passing = False

    def restore(self) -> None:
        self._passing = True
        self._break_connections()  # what was swallowed is lost, and the streams with it
        if self._listener.fileno() == -1:
            self._listener = self._listen(self.port)

    def close(self) -> None:
        if self._listener.fileno() != -1:
            self.refuse()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:  # the listener was closed
                return
            self._connections += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65536):
                if self._passing:
                    sink.sendall(data)

    def _break_connections(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()
