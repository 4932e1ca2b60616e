"""The flows as Prefect sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Typed
from histoflow_flows.evaluate import evaluate_flow
from histoflow_flows.train import train_flow


def test_each_step_is_a_task_run_with_a_readable_name(
    prefect_server: str, cli_environment: dict[str, str], tmp_path
) -> None:
    """Run the flow against a real server and ask the server what it saw."""
    script = """
from histoflow.experiment import load
from histoflow_flows.train import train_flow
settings = ["name=steps", "dataset.images=180", "dataset.size=16", "training.epochs=1", "architecture.widths=[4]"]
train_flow(load("demo", [*settings, "evaluation={gallery: 0, embedding: false}"]))

from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    (flow_run,) = [run for run in client.read_flow_runs() if run.name == "train steps"]
    print("STATE", flow_run.state_type.value)
    for run in client.read_task_runs():
        if run.flow_run_id == flow_run.id:
            print("TASK", run.name, run.state_type.value)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=cli_environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "STATE COMPLETED" in done.stdout
    names = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("TASK")]
    assert {name.rsplit(" ", 1)[1] for name in names} == {"COMPLETED"}
    assert {name.split("-")[0].rsplit(" ", 1)[0] for name in names} >= {
        "start steps", "fetch tissue", "preprocess tissue", "train cnn on tissue",
    }  # fmt: skip


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
