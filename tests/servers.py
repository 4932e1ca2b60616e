"""A real HTTP server on this machine that can misbehave in the ways that real ones do."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Headers = dict[str, str]


@dataclass
class Request:
    """One request as the server saw it, with the means to answer it."""

    handler: BaseHTTPRequestHandler
    number: int
    """Counted from 0 for each path."""
    closing: threading.Event

    @property
    def offset(self) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.handler.headers.get("Range", ""))
        return int(match[1]) if match else None

    def answer(
        self, status: int, body: bytes = b"", *, promised: int | None = None, headers: Headers | None = None
    ) -> None:
        """``promised`` is the length announced, where it is not that of the body."""
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(body) if promised is None else promised))
        for name, value in (headers or {}).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(body)
        self.handler.wfile.flush()


Behaviour = Callable[[Request], None]


@dataclass
class Server:
    """Answers each path as its behaviour says, and remembers what was asked."""

    url: str
    paths: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[tuple[str, int | None]] = field(default_factory=list)
    """The path and the offset of the range, if any, of every request."""
    closing: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str, behaviour: Behaviour) -> str:
        """Serve this path so; returns its address."""
        self.paths[path] = behaviour
        return f"{self.url}/{path}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.shared = server
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        number = sum(asked == path for asked, _ in self.shared.asked)
        request = Request(self, number, self.shared.closing)
        self.shared.asked.append((path, request.offset))
        self.shared.paths.get(path, answers(404))(request)

    def log_message(self, *args: object) -> None: ...


@contextmanager
def serving() -> Iterator[Server]:
    shared = Server("")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, shared)) as server:
        shared.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield shared
        finally:
            shared.closing.set()
            server.shutdown()
            thread.join()


# ── Behaviours ──────────────────────────────────────────────────────────────────────────────────


def gives(body: bytes, ranges: bool = True) -> Behaviour:
    """Gives the whole, or the range asked for."""

    def behave(request: Request) -> None:
        if request.offset is None or not ranges:
            request.answer(200, body)
        elif request.offset >= len(body):
            request.answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
        else:
            span = f"bytes {request.offset}-{len(body) - 1}/{len(body)}"
            request.answer(206, body[request.offset :], headers={"Content-Range": span})

    return behave


def breaks_off(body: bytes, after: int, ranges: bool = True) -> Behaviour:
    """Announces all that is left and hangs up after so many bytes, every time."""

    def behave(request: Request) -> None:
        offset = (request.offset or 0) if ranges else 0
        rest = body[offset:]
        span = {"Content-Range": f"bytes {offset}-{len(body) - 1}/{len(body)}"} if offset else {}
        request.answer(206 if offset else 200, rest[:after], promised=len(rest), headers=span)

    return behave


def stalls(body: bytes, after: int) -> Behaviour:
    """Gives so many bytes, then nothing, and does not hang up."""

    def behave(request: Request) -> None:
        request.answer(200, body[:after], promised=len(body))
        request.closing.wait(30)

    return behave


def slowly(body: bytes, seconds: float) -> Behaviour:
    def behave(request: Request) -> None:
        request.closing.wait(seconds)
        gives(body)(request)

    return behave


def answers(status: int, **headers: str) -> Behaviour:
    return lambda request: request.answer(status, headers=headers)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour a request; the last goes on."""
    return lambda request: behaviours[min(request.number, len(behaviours) - 1)](request)
