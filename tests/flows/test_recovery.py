"""Runs that are killed, cancelled or left behind, on a real server with a real worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Crashed, Pending, Running

import support
from conftest import Dawdling, Typed
from histoflow.engine import checkpoint
from histoflow.runs import Run
from histoflow_flows import flow_run, reaper
from histoflow_flows.flow_run import claim_of
from histoflow_flows.reaper import Reaper
from histoflow_flows.train import train_flow
from support import small_experiment

PATIENCE = 150.0


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server}), get_client(sync_client=True) as client:
        yield client


class Crew:
    """A deployment of train-flow in a work pool of its own."""

    def __init__(self, client: SyncPrefectClient, environment: dict[str, str]) -> None:
        self.client, self.environment = client, environment
        self.pool = f"pool-{uuid4().hex[:6]}"
        client.create_work_pool(WorkPoolCreate(name=self.pool, type="process"))
        self.deployment = client.create_deployment(
            flow_id=client.create_flow(train_flow),
            name=self.pool,
            entrypoint="histoflow_flows.train.train_flow",
            pull_steps=[],
            work_pool_name=self.pool,
        )

    def submit(self, **parameters: Any) -> UUID:
        return self.client.create_flow_run_from_deployment(self.deployment, parameters=parameters).id

    @contextmanager
    def worker(self, variables: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        command = ["-m", "prefect", "worker", "start", "--pool", self.pool]
        environment = self.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"} | (variables or {})
        with subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def flow_run(self, flow_run_id: UUID) -> FlowRun:
        return self.client.read_flow_run(flow_run_id)

    def lines(self, reaper: Reaper, flow_run_id: UUID) -> list[str]:
        """What a pass of the reaper did about this flow run."""
        name = self.flow_run(flow_run_id).name
        return [line for line in reaper.sweep() if line.startswith(name)]

    def wait_for(self, flow_run_id: UUID, *types: StateType) -> FlowRun:
        return until(lambda: (run := self.flow_run(flow_run_id)).state_type in types and run)


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


@pytest.fixture
def crew(client: SyncPrefectClient, cli_environment: dict[str, str]) -> Crew:
    return Crew(client, cli_environment)


LONG = {"epochs": 16, "batch_size": 32}


def the_run(home: Path) -> Run:
    return until(lambda: [Run(path) for path in (home / "runs").glob("2*") if (path / "run.json").is_file()])[
        0
    ]


def trained(home: Path, epochs: int) -> Run:
    """The one run, once it has come so far."""
    run = until(lambda: (home / "runs").is_dir() and the_run(home))
    until(lambda: len(run.history()) >= epochs)
    return run


def process_of(flow_run_id: UUID) -> int:
    holder = claim_of(flow_run_id).holder()
    assert holder is not None
    return holder.pid


def weights(run: Run) -> list[str]:
    found = [checkpoint.find(run.checkpoints, which) for which in ("last", "best")]
    return [saved.model_hash for saved in found if saved is not None]


def test_a_run_whose_process_and_whose_worker_are_ended_goes_on_to_the_same_weights(
    crew: Crew, home: Path, dawdling: Dawdling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "DELAYS", (0.0,))
    one = Reaper()
    experiment = small_experiment(training=LONG, reports=[])
    flow_run_id = crew.submit(experiment=experiment.to_data())
    with crew.worker(dawdling(0.2)) as worker:
        run = trained(home, epochs=2)
        assert crew.lines(one, flow_run_id) == [], "who works on a run is left in peace"
        os.kill(process_of(flow_run_id), signal.SIGKILL)
        crew.wait_for(flow_run_id, StateType.CRASHED)
        (line,) = crew.lines(one, flow_run_id)
        assert "Restart 1 of 3, from the last checkpoint" in line
        begun = len(run.history())
        until(lambda: len(run.history()) >= begun + 2)
        worker.terminate()  # and with it the training, which may or may not come to tell the server
        worker.wait()
    until(lambda: claim_of(flow_run_id).holder() is None)
    assert "Restart 2 of 3" in crew.lines(one, flow_run_id)[-1]
    with crew.worker():
        time.sleep(1)
        crew.wait_for(flow_run_id, StateType.COMPLETED)
    assert weights(run) == weights(support.trained(experiment, "undisturbed"))
    assert run.read().state == "evaluated"
    assert len(run.read().sessions) == 3
    assert len(run.openings()) == 1
    assert crew.lines(one, flow_run_id) == []


ONE_EPOCH = small_experiment(training={"epochs": 1, "batch_size": 1, "checkpoint_seconds": 3600}).to_data()
"""No checkpoint is due within it."""
PAUSE = 0.5
"""After each of its steps, so that the only epoch takes a while."""


def test_a_cancelled_run_ends_after_a_checkpoint_and_stays_ended(
    crew: Crew, home: Path, dawdling: Dawdling
) -> None:
    flow_run_id = crew.submit(experiment=ONE_EPOCH)
    with crew.worker(dawdling(PAUSE)):
        run = trained(home, epochs=0)
        until(lambda: run.read().sessions)
        time.sleep(1)
        crew.client.set_flow_run_state(flow_run_id, Cancelling())
        crew.wait_for(flow_run_id, StateType.CANCELLED)
    saved = checkpoint.find(run.checkpoints, "last")
    assert saved is not None, "its last act was a checkpoint"
    assert (saved.epoch, saved.position.step > 0) == (0, True)
    until(lambda: claim_of(flow_run_id).holder() is None)
    assert crew.lines(Reaper(), flow_run_id) == []
    assert crew.flow_run(flow_run_id).state_type == StateType.CANCELLED


def test_a_cancelled_run_without_a_worker_is_ended_by_the_reaper(
    crew: Crew, home: Path, dawdling: Dawdling, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_run_id = crew.submit(experiment=ONE_EPOCH)
    with crew.worker(dawdling(PAUSE)) as worker:
        run = trained(home, epochs=0)
        until(lambda: run.read().sessions)
        worker.kill()
        worker.wait()
    crew.client.set_flow_run_state(flow_run_id, Cancelling())
    monkeypatch.setattr(reaper, "CANCELLING_MAY_TAKE", timedelta(0))
    one = Reaper()
    (line,) = crew.lines(one, flow_run_id)
    assert "no worker carries out its cancelling" in line
    until(lambda: claim_of(flow_run_id).holder() is None)
    crew.lines(one, flow_run_id)
    crew.lines(one, flow_run_id)
    assert crew.flow_run(flow_run_id).state_type == StateType.CANCELLED
    assert checkpoint.find(run.checkpoints, "last") is not None


def test_a_run_that_crashes_again_and_again_is_left_in_the_end(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISTOFLOW_RESTARTS", "2")
    one = Reaper()
    flow_run_id = crew.submit()
    for restart in (1, 2):
        crew.client.set_flow_run_state(flow_run_id, Running(), force=True)
        crew.client.set_flow_run_state(flow_run_id, Crashed())
        (line,) = crew.lines(one, flow_run_id)
        assert f"Restart {restart} of 2" in line
        assert crew.flow_run(flow_run_id).state_name == "AwaitingRetry"
    crew.client.set_flow_run_state(flow_run_id, Running(), force=True)
    crew.client.set_flow_run_state(flow_run_id, Crashed())
    (line,) = crew.lines(one, flow_run_id)
    assert "crashed and stays so: it was restarted 2 times" in line
    assert crew.lines(one, flow_run_id) == [], "once told"
    assert crew.flow_run(flow_run_id).state_type == StateType.CRASHED


@pytest.mark.parametrize(
    ("lost", "found"), [(Pending(), StateType.SCHEDULED), (Cancelling(), StateType.CANCELLED)]
)
def test_what_was_taken_or_cancelled_by_a_worker_that_is_gone_comes_to_an_end(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, lost: State, found: StateType
) -> None:
    flow_run_id = crew.submit()
    for state in (Running(), lost):  # what was never begun is cancelled at once
        crew.client.set_flow_run_state(flow_run_id, state, force=True)
    assert crew.lines(Reaper(), flow_run_id) == [], "its process may still be starting, or ending"
    monkeypatch.setattr(reaper, "STARTING_MAY_TAKE", timedelta(0))
    monkeypatch.setattr(reaper, "CANCELLING_MAY_TAKE", timedelta(0))
    assert len(crew.lines(Reaper(), flow_run_id)) == 1
    assert crew.flow_run(flow_run_id).state_type == found


def test_a_second_process_for_the_same_flow_run_ends_without_a_word(
    crew: Crew, cli_environment: dict[str, str]
) -> None:
    """Else it would tell the server that the run crashed, which the first one works on."""
    flow_run_id = crew.submit()
    claim = claim_of(flow_run_id)
    claim.take()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "prefect.engine", str(flow_run_id)],
            env=cli_environment | {"PREFECT__FLOW_RUN_ID": str(flow_run_id)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        claim.give_up()
    assert done.returncode == 0
    assert "is being worked on by another process" in done.stderr
    assert crew.flow_run(flow_run_id).state_type == StateType.SCHEDULED


def test_a_run_of_another_home_is_not_touched(crew: Crew) -> None:
    """Where workers may be elsewhere, a claim that is not here says nothing."""
    flow_run_id = crew.submit()
    crew.client.set_flow_run_state(flow_run_id, Running(), force=True)
    assert crew.lines(Reaper(), flow_run_id) == []
    assert crew.flow_run(flow_run_id).state_type == StateType.RUNNING


def test_a_wrong_number_of_restarts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from histoflow.errors import UserError

    monkeypatch.setenv("HISTOFLOW_RESTARTS", "some")
    with pytest.raises(UserError, match="HISTOFLOW_RESTARTS must be a whole number, 0 or more. Got 'some'"):
        Reaper()


def test_the_run_of_a_flow_run_has_one_id(prefect_here: str) -> None:
    @flow
    def twice() -> tuple[str, str]:
        return flow_run.run_id("here"), flow_run.run_id("here")

    first, second = twice()
    assert first == second
    assert "-here-" in first


def test_the_command_looks_once_or_again_and_again(
    typed_flow: Typed, capsys: pytest.CaptureFixture[str], cli_environment: dict[str, str]
) -> None:
    assert typed_flow("reap") == 0
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert typed_flow("reap") == 2
    assert "PREFECT_API_URL" in capsys.readouterr().err
    command = [sys.executable, "-m", "histoflow_flows.cli", "reap", "--every", "1"]
    with subprocess.Popen(command, env=cli_environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "every 1 s" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
