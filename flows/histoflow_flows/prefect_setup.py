"""Prepares Prefect for the commands of histoflow, mostly before it is imported."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from pathlib import Path

from histoflow import home
from histoflow.errors import UserError
from histoflow_flows.service import record


def prepare(debug: bool) -> None:
    """Defaults only: what the environment or a Prefect profile says stays as it is."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # The in-process server's cold start on a small machine can outlast the usual 20 s.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # The command line shows progress and errors itself; Prefect would add each traceback. Its log goes to the
    # server all the same.
    if not debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    if not _prefect_is_set_up():
        os.environ.setdefault("PREFECT_HOME", str(home.prefect()))


def server_in_use() -> str | None:
    """The address of the server that the user has set up, else of a running ``histoflow up``, if any."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        connection = record.connection()
        if connection:
            os.environ.update(connection)
            refresh_global_settings_context()
    return PREFECT_API_URL.value() or None


def demand_server() -> str:
    address = server_in_use()
    if address is None:
        raise UserError(
            "There is no Prefect server to talk to. Start one with 'histoflow up', or name yours in "
            "PREFECT_API_URL."
        )
    return address


def start_in_process_server() -> None:
    """Start the server that Prefect would start by itself, but deaf to Ctrl-C and not outliving this process.

    A terminal sends Ctrl-C to every process in it. A server that ended at once could not take the news
    that the flow was interrupted, and Prefect would try to tell it for minutes. And ``kill -9`` runs
    nothing that could end the server.
    """
    if server_in_use() is not None:
        return
    from prefect.server.api.server import SubprocessASGIServer

    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the server inherits the mask
    try:
        server = SubprocessASGIServer()
        server.start()
        if server.server_process is not None:
            _end_with_this_process(server.server_process.pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _end_with_this_process(pid: int) -> None:
    """Have a shell end that process when our end of its standard input closes, however we end."""
    command = ["sh", "-c", f"read _; kill {pid}"]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603 - nothing in it is a stranger's

    def dismiss() -> None:  # a regular end stops the server by itself
        watcher.kill()
        watcher.wait()

    atexit.register(dismiss)


def _prefect_is_set_up() -> bool:
    """Whether the user has a server or a profile of their own, which must be found."""
    return "PREFECT_API_URL" in os.environ or (Path.home() / ".prefect" / "profiles.toml").is_file()
