"""Challengers that wait for a person, and what becomes of them when nobody comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus

FLOW = "retrain-flow"
HOURS = 72.0
"""How long a challenger waits where its flow run does not say."""


def end_overdue(client: SyncPrefectClient) -> Iterator[str]:
    """Answer in the place of the person who did not; the flow run then rejects its challenger, on the record.

    Prefect's own time limit would end the flow run as failed, and nothing would be written down.
    """
    for run in _waiting(client):
        hours = float(run.parameters.get("hold_hours", HOURS))
        if run.state is None or datetime.now(UTC) < run.state.timestamp + timedelta(hours=hours):
            continue
        answer = {"decision": "reject", "reason": f"Nobody decided within {hours:g} h.", "name": "histoflow"}
        if client.resume_flow_run(run.id, run_input=answer).status is SetStateStatus.ACCEPT:
            yield f"{run.name}: nobody decided within {hours:g} h. Its challenger is rejected."


def _waiting(client: SyncPrefectClient) -> list[FlowRun]:
    paused = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(state=paused),
        limit=200,
    )
