"""The flows as Prefect sees them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import StateType, TaskRun

from conftest import Typed
from histoflow.experiment import load
from histoflow_flows.evaluate import evaluate_flow
from histoflow_flows.train import train_flow


def test_each_step_is_a_task_run_with_a_readable_name(prefect_here: str) -> None:
    """Run the flow against a real server and ask the server what it saw."""
    settings = ["name=steps", "dataset.images=180", "dataset.size=16", "training.epochs=1", "reports=[]"]
    small = ["architecture.widths=[4]", "evaluation={gallery: 0, embedding: false}"]
    state = train_flow(load("demo", [*settings, *small]), return_state=True)
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(state.state_details.flow_run_id)
        tasks = recorded(client, flow_run.id)
    assert (flow_run.name, flow_run.state_type) == ("train steps", StateType.COMPLETED)
    assert {task.state_type for task in tasks} == {StateType.COMPLETED}
    assert {task.name for task in tasks} >= {
        "start steps", "fetch tissue", "preprocess tissue", "train cnn on tissue",
    }  # fmt: skip


def recorded(client: SyncPrefectClient, flow_run_id: UUID) -> list[TaskRun]:
    """The tasks of a flow run, once the server has recorded the last one's end, a little later."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 30
    while True:
        tasks = client.read_task_runs(flow_run_filter=wanted)
        ended = any(task.name.startswith("report") and task.state_type == "COMPLETED" for task in tasks)
        if ended or time.monotonic() > deadline:
            return tasks
        time.sleep(0.1)


def test_flows_bear_the_names_that_deployments_use() -> None:
    assert train_flow.name == "train-flow"
    assert evaluate_flow.name == "evaluate-flow"


def test_a_wrong_parameter_is_refused_before_anything_runs(
    typed: Typed, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert typed("train", "demo", "--set", "architecture.depth=18") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "'depth' is not a parameter of 'cnn'" in told
    assert not (home / "runs").exists()


@pytest.mark.parametrize("module", ["cli", "display"])
def test_the_command_line_starts_without_torch_and_prefect(module: str) -> None:
    script = (
        f"import sys, histoflow_flows.{module}; print([m for m in ('torch', 'prefect') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
