"""A worker that is told to end lets its flow runs end well, and reports so."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from compose import DEPLOYMENTS

SCRIPT = DEPLOYMENTS / "end-gently.sh"

FLOW = """
import time
from pathlib import Path
from prefect import flow

@flow
def patient(folder: str):
    Path(folder, "began").touch()
    try:
        time.sleep(300)
    finally:
        Path(folder, "ended well").touch()
"""


@pytest.fixture
def environment(cli_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "patience.py").write_text(FLOW)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{cli_environment['PATH']}"
    return cli_environment | {"PATH": programs, "PYTHONPATH": str(tmp_path)}


def deploy_and_run(flow: Any, folder: Path) -> UUID:
    """Has it run by whoever serves the work pool."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.flows import EntrypointType
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name="gently", type="process", base_job_template=template))
        pool = {"work_pool_name": "gently", "entrypoint_type": EntrypointType.MODULE_PATH}
        deployment = flow.to_deployment("patient", **pool).apply()
        return client.create_flow_run_from_deployment(deployment, parameters={"folder": str(folder)}).id


def test_a_flow_run_ends_well_before_its_worker_is_ended(
    environment: dict[str, str], tmp_path: Path, prefect_here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    run = deploy_and_run(importlib.import_module("patience").patient, tmp_path)
    worker = subprocess.Popen(
        [SCRIPT, "prefect", "worker", "start", "--pool", "gently"], env=environment, cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "began", worker)
    worker.send_signal(signal.SIGTERM)
    output, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0, output
    assert (tmp_path / "ended well").exists()
    told = httpx.get(f"{prefect_here}/flow_runs/{run}").json()
    assert (told["work_pool_name"], told["state_type"]) == ("gently", "CRASHED")


@pytest.mark.parametrize("code", [0, 7])
def test_a_command_that_ends_by_itself_passes_its_status_on(code: int) -> None:
    assert subprocess.run([SCRIPT, "sh", "-c", f"exit {code}"]).returncode == code


def wait_for(path: Path, worker: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert worker.poll() is None, worker.communicate()[0]
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.2)
