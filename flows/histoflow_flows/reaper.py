"""Finds flow runs that nobody works on any more, says so, and sets them going again.

Prefect learns of a process that dies from the worker that started it. Nobody tells it of a worker that
was ended, of a machine that went down, of a run that was handed to a worker in its last moment. But the
process of each flow run holds a claim under HISTOFLOW_HOME until it has ended, and so the claim tells.

A flow run that crashed goes on as the same flow run, from its last checkpoint, a few times at most.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed, Scheduled

from histoflow.errors import UserError
from histoflow_flows import holds
from histoflow_flows.flow_run import claim_of

FLOWS = ("train-flow", "fold-flow", "tune-flow", "evaluate-flow", "predict-flow", "retrain-flow")
RESTARTS_VARIABLE = "HISTOFLOW_RESTARTS"
RESTART = "Restart"
"""Begins the message of each state by which the reaper sets a run going again."""
DELAYS = (0.0, 30.0, 120.0)
"""Seconds before the first restart, the second, and all others."""
STARTING_MAY_TAKE = timedelta(minutes=2)
"""From the moment a worker takes a run until its process claims it."""
CANCELLING_MAY_TAKE = timedelta(minutes=1)
TOO_OLD = timedelta(days=1)
"""What crashed before was left alone on purpose."""


def restarts_allowed() -> int:
    text = os.environ.get(RESTARTS_VARIABLE, "3")
    if not text.isdecimal():
        raise UserError(f"{RESTARTS_VARIABLE} must be a whole number, 0 or more. Got '{text}'.")
    return int(text)


class Reaper:
    """Looks at all flow runs of histoflow's; remembers what it has said."""

    def __init__(self) -> None:
        self._restarts = restarts_allowed()
        self._told: set[UUID] = set()
        self._ended: set[UUID] = set()

    def sweep(self) -> list[str]:
        """One pass over the server; returns what was done."""
        with get_client(sync_client=True) as client:
            return [
                *(line for run in _living(client) for line in self._bury(client, run)),
                *(line for run in _crashed(client) for line in self._restart(client, run)),
                *holds.end_overdue(client),
            ]

    def _bury(self, client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
        """Tell the server the end of a run whose process has ended without doing so."""
        if run.state is None:
            return
        yield from self._end_uncancelled(run, run.state)
        # Its process may have ended well a moment ago.
        if not _is_lost(client, run, run.state) or _has_moved_on(client, run):
            return
        if run.state.type is StateType.CANCELLING:
            end: State = Cancelled(message="Nobody works on it any more.")
        elif run.state.type is StateType.PENDING:
            end = Scheduled(message="The worker that took it never began.")
        else:
            end = Crashed(message="Its process ended without a word.")
        if _set(client, run, end):
            yield f"{run.name}: {end.message} It is {end.name}."

    def _end_uncancelled(self, run: FlowRun, state: State) -> Iterator[str]:
        """Tell a process of this machine that its flow run is cancelled, where no worker is left to do so."""
        holder = claim_of(run.id).holder()
        overdue = state.type is StateType.CANCELLING and _age(state) > CANCELLING_MAY_TAKE
        if overdue and holder is not None and holder.is_here and run.id not in self._ended:
            self._ended.add(run.id)
            os.kill(holder.pid, signal.SIGTERM)
            yield f"{run.name}: no worker carries out its cancelling; its process was told to end."

    def _restart(self, client: SyncPrefectClient, run: FlowRun) -> Iterator[str]:
        """Put a crashed run back into the queue, unless it was there too often."""
        if run.deployment_id is None or run.id in self._told or claim_of(run.id).holder() is not None:
            return
        states = sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
        if len(states) > 1 and states[-2].type is StateType.CANCELLING:
            # Its process was told to end, and took that for a crash.
            if _set(client, run, Cancelled(message="It was cancelled.")):
                yield f"{run.name} was cancelled. It is Cancelled."
            return
        count = sum((state.message or "").startswith(RESTART) for state in states)
        if count >= self._restarts:
            self._told.add(run.id)
            yield f"{run.name} crashed and stays so: it was restarted {count} times."
            return
        delay = DELAYS[min(count, len(DELAYS) - 1)]
        message = f"{RESTART} {count + 1} of {self._restarts}, from the last checkpoint."
        due = datetime.now(UTC) + timedelta(seconds=delay)
        if _has_moved_on(client, run):
            return
        if _set(client, run, Scheduled(name="AwaitingRetry", scheduled_time=due, message=message)):
            yield f"{run.name} crashed. {message}"


def _is_lost(client: SyncPrefectClient, run: FlowRun, state: State) -> bool:
    claim = claim_of(run.id)
    if claim.holder() is not None:
        return False
    if state.type is StateType.CANCELLING:
        return _age(state) > CANCELLING_MAY_TAKE
    if state.type is StateType.PENDING:
        return _age(state) > STARTING_MAY_TAKE and _starts_at_once(client, run)
    return claim.exists()  # where there is none, its process may work under another HISTOFLOW_HOME


def _age(state: State) -> timedelta:
    return datetime.now(UTC) - state.timestamp


def _has_moved_on(client: SyncPrefectClient, run: FlowRun) -> bool:
    now = client.read_flow_run(run.id).state
    return now is None or run.state is None or now.id != run.state.id


def _starts_at_once(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a worker that takes it starts a process, and no container that may wait for a machine."""
    return run.work_pool_name is not None and client.read_work_pool(run.work_pool_name).type == "process"


def _living(client: SyncPrefectClient) -> list[FlowRun]:
    types = [StateType.RUNNING, StateType.CANCELLING, StateType.PENDING]
    return _read(client, FlowRunFilter(state=_any_of(types)))


def _crashed(client: SyncPrefectClient) -> list[FlowRun]:
    recent = FlowRunFilterEndTime(after_=datetime.now(UTC) - TOO_OLD)
    return _read(client, FlowRunFilter(state=_any_of([StateType.CRASHED]), end_time=recent))


def _any_of(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _read(client: SyncPrefectClient, wanted: FlowRunFilter) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
        flow_run_filter=wanted,
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


def _set(client: SyncPrefectClient, run: FlowRun, state: State) -> bool:
    """Whether the server took it; where it did not, the run has gone on by itself."""
    return client.set_flow_run_state(run.id, state).status is SetStateStatus.ACCEPT
