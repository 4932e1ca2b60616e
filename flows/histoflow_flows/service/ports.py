"""Whether a port is free, and if not, who has it."""

from __future__ import annotations

import socket

from histoflow.errors import UserError


def is_free(host: str, port: int) -> bool:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def owner(port: int) -> str:
    """The process that listens on the port, as far as we may see it."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass  # another user's process, or a system that does not tell
    return "another process"


def refuse_taken(host: str, port: int) -> None:
    try:
        free = is_free(host, port)
    except socket.gaierror:
        raise UserError(
            f"--host must be the name or address of an interface of this machine. Got '{host}'."
        ) from None
    if not free:
        raise UserError(
            f"Port {port} of {host} is taken by {owner(port)}. End that, or choose another with --port."
        )
