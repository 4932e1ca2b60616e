"""evaluate-flow: opens the test split for the best model of a run once more."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from histoflow import home, runs
from histoflow.runs import Run
from histoflow_flows import evidence, flow_run, tasks
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()


@flow(name="evaluate-flow", flow_run_name="evaluate {run}")
def evaluate_flow(run: str, reason: str = "evaluate-flow", device: str | None = None) -> Path:
    """Evaluate the run of this id or folder and write its reports anew; returns the run's folder."""
    flow_run.claim()
    # 'latest' stays the same run when the flow run begins anew.
    found = Run(Path(flow_run.remembered(lambda: str(runs.find(home.runs(), run).folder))))
    with evidence.of_work(), gpu_slot():
        tasks.evaluate(found, reason=reason, again=True, device=device)
    tasks.report(found)
    return found.folder
