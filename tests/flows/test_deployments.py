"""The deployments that are shipped are taken by a real server and run by a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SHIPPED = YAML(typ="safe", pure=True).load((ROOT / "deployments" / "prefect.yaml").read_text())

EXPERIMENT = {
    "name": "deployed",
    "dataset": {"name": "tissue", "classes": 2, "size": 16, "images": 90},
    "architecture": {"name": "cnn", "widths": [4]},
    "training": {"epochs": 1},
}


def test_every_flow_is_deployed_under_its_own_name() -> None:
    assert [deployment["name"] for deployment in SHIPPED["deployments"]] == ["train-flow", "evaluate-flow"]
    assert SHIPPED["pull"] == [], "else the deployer's own folder would be baked in"


def test_no_schedule_is_active_before_someone_switches_it_on() -> None:
    schedules = [
        schedule for deployment in SHIPPED["deployments"] for schedule in deployment.get("schedules", ())
    ]
    assert schedules
    assert not any(schedule["active"] for schedule in schedules)


@pytest.fixture
def prefect(cli_environment: dict[str, str], tmp_path: Path):
    """Prefect's own command line, from a folder that has nothing to do with the checkout."""

    def run(
        *arguments: str, folder: Path = tmp_path, fails: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=cli_environment, cwd=folder, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done

    return run


def test_a_deployed_training_is_run_by_a_worker_when_its_bare_name_is_typed(prefect, home: Path) -> None:
    prefect("work-pool", "create", "gpu", "--type", "process")
    prefect("--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml", folder=ROOT)
    parameters = {"experiment": EXPERIMENT, "run_id": "from-a-worker"}
    prefect("deployment", "run", "train-flow", "--params", json.dumps(parameters), folder=ROOT)
    unknown = prefect("deployment", "run", "no-such-flow", folder=ROOT, fails=True)
    assert "Expected format: <FLOW_NAME>/<DEPLOYMENT_NAME>" in unknown.stdout + unknown.stderr
    prefect("worker", "start", "--pool", "gpu", "--run-once")
    record = json.loads((home / "runs" / "from-a-worker" / "run.json").read_text())
    assert record["state"] == "evaluated"
    assert record["experiment"]["architecture"]["widths"] == [4]
