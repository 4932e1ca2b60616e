"""The run that this code works for, if Prefect runs it."""

from __future__ import annotations

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger

from histoflow_flows.evidence.cards import Owner
from histoflow_flows.evidence.posting import Log


def owner() -> Owner | None:
    """None outside a flow run."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    flow_run_id = task.task_run.flow_run_id if task else flow and flow.flow_run and flow.flow_run.id
    return Owner(flow_run_id, task.task_run.id if task else None) if flow_run_id else None


def run_log() -> Log:
    return get_run_logger()
