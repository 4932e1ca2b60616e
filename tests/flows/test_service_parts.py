"""The parts of 'histoflow up', one by one, with real processes and ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from histoflow.errors import HistoflowError, UserError
from histoflow_flows.service import ports, record
from histoflow_flows.service.children import Child
from histoflow_flows.service.ending import end_all
from histoflow_flows.service.form_changes import changes, form_of
from histoflow_flows.service.reaping import Reaping
from histoflow_flows.service.record import Mark, Record
from histoflow_flows.service.settings import Settings, environment

SECRET = {"PREFECT_SERVER_API_AUTH_STRING": "lab:secret"}


# ── Settings ────────────────────────────────────────────────────────────────────────────────────


def test_the_defaults_are_safe_and_yield_to_the_users_own_environment() -> None:
    told = environment(Settings(), {"PREFECT_WORKER_QUERY_SECONDS": "7"})
    assert told["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert told["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    assert told["PREFECT_WORKER_QUERY_SECONDS"] == "7"


def test_the_addresses_are_those_of_this_server_whatever_was_exported_before() -> None:
    told = environment(Settings(port=4321), {"PREFECT_API_URL": "http://elsewhere/api"})
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
    assert told["PREFECT_SERVER_API_PORT"] == "4321"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:4200"),
        ("0.0.0.0", "http://127.0.0.1:4200"),
        ("::", "http://[::1]:4200"),
        ("192.0.2.7", "http://192.0.2.7:4200"),
    ],
)
def test_this_machine_reaches_the_server_at(host: str, url: str) -> None:
    assert Settings(host).url == url


@pytest.mark.parametrize("secret", [{}, {"PREFECT_SERVER_API_AUTH_STRING": "no-user"}])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "a.name.of.this.machine"])
def test_others_reach_the_server_only_with_a_password(host: str, secret: dict[str, str]) -> None:
    with pytest.raises(UserError, match="PREFECT_SERVER_API_AUTH_STRING must be USER:PASSWORD"):
        environment(Settings(host), secret)
    told = environment(Settings(host), SECRET)
    assert told["PREFECT_API_AUTH_STRING"] == "lab:secret"
    assert told["PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"] == "true"


# ── The record ──────────────────────────────────────────────────────────────────────────────────


def write_record(**processes: Mark) -> Record:
    written = Record(token="t", url="http://127.0.0.1:4200", secured=False, ready=True, processes=processes)
    record.write(written)
    return written


def test_the_server_of_a_live_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert record.connection() == {}
    write_record(up=Mark.of(os.getpid()))
    assert record.connection() == {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}


def test_a_later_process_with_the_same_number_is_told_apart() -> None:
    own = Mark.of(os.getpid())
    write_record(up=Mark(pid=own.pid, started=own.started - 60))
    assert record.connection() == {}


def test_a_record_that_cannot_be_read_is_said() -> None:
    record.path().parent.mkdir(parents=True)
    record.path().write_text('{"token": "t"')
    with pytest.raises(UserError, match="If nothing of 'histoflow up' runs any more, delete it"):
        record.read()


# ── Ports ───────────────────────────────────────────────────────────────────────────────────────


def test_a_taken_port_is_refused_with_the_name_of_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=rf"Port {port} .* process {os.getpid()} .* --port"):
            ports.refuse_taken("127.0.0.1", port)
    ports.refuse_taken("127.0.0.1", port)


def test_a_host_that_is_none_of_this_machine_is_refused() -> None:
    with pytest.raises(UserError, match="--host must be"):
        ports.refuse_taken("no-such-host.invalid", 4200)


# ── Children ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Says where it got to, and waits to be ended."""
    script = "print('up and running', flush=True); import signal; signal.pause()"
    made = Child("helper", [sys.executable, "-c", script], os.environ, tmp_path / "logs" / "helper.log")
    made.start()
    yield made
    kill(made)


def kill(child: Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    while child.ended() is None:
        Event().wait(0.01)


def test_a_child_that_lives_is_left_alone(child: Child) -> None:
    assert child.tend(pytest.fail) is False
    child.must_live()


def test_a_child_that_dies_is_started_again_and_each_time_later(child: Child) -> None:
    said: list[str] = []
    for delay in ("1", "2"):
        first = child.pid
        kill(child)
        while not child.tend(said.append):
            Event().wait(0.05)
        assert child.pid != first
        assert child.ended() is None
        assert f"exit status -9) and is started again in {delay} s" in said[-1]
    assert len(said) == 2, "each end is said once"


def test_a_child_that_ends_as_it_starts_is_reported_with_its_last_words(child: Child) -> None:
    while "up and running" not in child.log.read_text():
        Event().wait(0.05)
    kill(child)
    with pytest.raises(HistoflowError, match=r"ended as it started \(exit status -9\)[^$]*up and running"):
        child.must_live()
    child.start()


# ── Ending ──────────────────────────────────────────────────────────────────────────────────────

STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)
GENTLE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print('ready', flush=True)
signal.pause()
open(sys.argv[1], 'w').write('saved')
"""


def start(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait()


def test_flow_runs_are_asked_to_end_before_the_worker_and_strangers_are_spared() -> None:
    up, worker = Mark.of(os.getpid()), start(STUBBORN, HISTOFLOW_UP_TOKEN="t")
    flow_run = start(
        GENTLE.replace("sys.exit(0)", "None"), os.devnull, HISTOFLOW_UP_TOKEN="t", PREFECT__FLOW_RUN_ID="1"
    )
    stranger = start(STUBBORN, HISTOFLOW_UP_TOKEN="another", PREFECT__FLOW_RUN_ID="2")
    said: list[str] = []
    end_all(write_record(up=up), said.append, Event())
    assert end(flow_run) == 0, "it went on past the signal and came to its end"
    assert end(worker) == -signal.SIGKILL
    assert stranger.poll() is None
    assert record.read() is None
    assert said == ["Waiting for 1 flow run to save and end; Ctrl-C ends at once."]
    stranger.kill()
    end(stranger)


def test_a_hurry_cuts_the_waiting_short() -> None:
    flow_run = start(STUBBORN, HISTOFLOW_UP_TOKEN="t", PREFECT__FLOW_RUN_ID="1")
    hurry = Event()
    hurry.set()
    said: list[str] = []
    end_all(write_record(up=Mark.of(os.getpid())), said.append, hurry)
    assert end(flow_run) == -signal.SIGKILL
    assert said[-1] == "Not all flow runs have ended; what is left of them is killed."


# ── Reaping ─────────────────────────────────────────────────────────────────────────────────────


def test_a_sweep_that_fails_is_said_once_and_tried_again() -> None:
    said: list[str] = []
    fine = Event()
    outcomes = iter([OSError("gone"), OSError("gone"), ["one run was lost"], OSError("gone again")])

    def sweep() -> list[str]:
        outcome = next(outcomes, None)
        if outcome is None:
            fine.set()
            return []
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    reaping = Reaping(sweep, said.append, every=0.01)
    reaping.start()
    assert fine.wait(30)
    reaping.stop()
    assert not reaping.is_alive()
    assert [line.split(".")[0] for line in said] == [
        "Lost runs could not be looked for (OSError: gone)",
        "one run was lost",
        "Lost runs could not be looked for (OSError: gone again)",
    ]


# ── The deployed form and the plugins that are here ─────────────────────────────────────────────


def test_a_form_of_the_same_plugins_has_not_changed() -> None:
    form = form_of("histoflow_flows.train.train_flow")
    assert changes(form, form) == []


def test_what_differs_in_the_form_is_named() -> None:
    here = form_of("histoflow_flows.train.train_flow")
    deployed = form_of("histoflow_flows.train.train_flow")
    properties = deployed["definitions"]["Experiment"]["properties"]
    networks = properties["architecture"]["anyOf"]
    (resnet,) = [tab for tab in networks if "resnet" in tab["properties"]["name"]["enum"]]
    (cnn,) = [tab for tab in networks if "cnn" in tab["properties"]["name"]["enum"]]
    del cnn["properties"]["widths"]
    resnet["properties"]["name"]["enum"] = ["gone"]
    assert changes(deployed, here) == [
        "architecture resnet is missing in the form",
        "architecture gone is not installed here",
        "architecture cnn has other parameters",
    ]
    renamed = here | {"title": "other"}
    assert changes(renamed, here) == ["other settings than components"]
