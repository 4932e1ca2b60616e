"""The deployments that are shipped are taken by a real server, and run by a real worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from conftest import Typed
from histoflow_flows.service.deploying import keep_switches, shipped

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = shipped()["deployments"]

EXPERIMENT: dict[str, Any] = {
    "name": "deployed",
    "dataset": {"name": "tissue", "classes": 2, "size": 16, "images": 90},
    "architecture": {"name": "cnn", "widths": [4]},
    "training": {"epochs": 1},
    "evaluation": {"gallery": 0, "embedding": False},
    "reports": [],
}

Prefect = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("entry", DEPLOYMENTS, ids=lambda entry: entry["name"])
def test_each_deployment_is_complete_and_bears_the_name_of_its_flow(entry: dict[str, Any]) -> None:
    module, _, name = entry["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), name)
    assert entry["name"] == flow.name
    assert entry["description"]
    assert "histoflow" in entry["tags"]
    assert entry["work_pool"]["name"] == "gpu"
    assert entry["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert entry["concurrency_limit"]["collision_strategy"] in ("ENQUEUE", "CANCEL_NEW")
    missing = set(flow.parameters.required) - entry["parameters"].keys()
    assert not missing, "a run that is told nothing must be possible"


def test_nothing_is_pulled_else_the_deployers_own_folder_would_be_baked_in() -> None:
    assert shipped()["pull"] == []


def test_no_schedule_is_active_before_someone_switches_it_on() -> None:
    schedules = [schedule for entry in DEPLOYMENTS for schedule in entry.get("schedules", ())]
    assert schedules
    assert not any(schedule["active"] for schedule in schedules)


@pytest.fixture
def prefect(cli_environment: dict[str, str], tmp_path: Path) -> Prefect:
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


@pytest.fixture(scope="module")
def deployed(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a server that has the work pool and, by 'histoflow deploy', the deployments."""
    folder = str(tmp_path_factory.mktemp("deployer"))
    environment = os.environ | {
        "PREFECT_API_URL": prefect_server, "PREFECT_HOME": folder, "HISTOFLOW_HOME": folder, "COLUMNS": "200",
    }  # fmt: skip
    pool = {
        "name": "gpu",
        "type": "process",
        "base_job_template": ProcessWorker.get_default_base_job_template(),
    }
    assert httpx.post(f"{prefect_server}/work_pools/", json=pool).status_code in (201, 409)
    done = subprocess.run(
        [sys.executable, "-m", "histoflow_flows.cli", "deploy"],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"Deployed: {', '.join(entry['name'] for entry in DEPLOYMENTS)}."
    return prefect_server


def test_a_deployed_training_is_run_by_a_worker_when_its_bare_name_is_typed(
    deployed: str, prefect: Prefect, home: Path
) -> None:
    parameters = {"experiment": EXPERIMENT, "run_id": "from-a-worker"}
    prefect("deployment", "run", "train-flow", "--params", json.dumps(parameters), folder=ROOT)
    unknown = prefect("deployment", "run", "no-such-flow", folder=ROOT, fails=True)
    assert "Expected format: <FLOW_NAME>/<DEPLOYMENT_NAME>" in unknown.stdout + unknown.stderr
    prefect("worker", "start", "--pool", "gpu", "--run-once")
    record = json.loads((home / "runs" / "from-a-worker" / "run.json").read_text())
    assert record["state"] == "evaluated"
    assert record["experiment"]["architecture"]["widths"] == [4]


def test_a_bare_name_that_two_deployments_bear_is_left_for_prefect_to_refuse(
    deployed: str, prefect: Prefect
) -> None:
    flow = httpx.post(f"{deployed}/flows/", json={"name": "another-flow"}).json()
    twin = {"name": "train-flow", "flow_id": flow["id"], "enforce_parameter_schema": False}
    made = httpx.post(f"{deployed}/deployments/", json=twin)
    try:
        refused = prefect("deployment", "run", "train-flow", folder=ROOT, fails=True)
        assert "Expected format: <FLOW_NAME>/<DEPLOYMENT_NAME>" in refused.stdout + refused.stderr
    finally:
        httpx.delete(f"{deployed}/deployments/{made.json()['id']}").raise_for_status()


def test_a_trigger_is_off_until_it_is_switched_on_and_then_a_changed_data_set_starts_a_retraining(
    deployed: str,
) -> None:
    """And deploying again leaves it as it was switched."""
    (trigger,) = next(entry for entry in DEPLOYMENTS if entry["name"] == "retrain-flow")["triggers"]
    with temporary_settings({PREFECT_API_URL: deployed}), get_client(sync_client=True) as client:
        (automation,) = client.read_automations_by_name(trigger["name"])
        assert not automation.enabled
        client.resume_automation(automation.id)
        again = [dict(trigger)]
        keep_switches(client, again)
        assert again[0]["enabled"] is True

        wanted = FlowFilter(name=FlowFilterName(any_=["retrain-flow"]))
        resource = {"prefect.resource.id": "histoflow.dataset.colon"}
        deadline = time.monotonic() + 60
        while not (started := client.read_flow_runs(flow_filter=wanted)):
            assert time.monotonic() < deadline
            emit_event(
                "histoflow.dataset.changed", resource
            )  # the server may still be learning of the switch
            time.sleep(2)
        client.pause_automation(automation.id)
        assert started[0].created_by is not None
        assert started[0].created_by.type == "AUTOMATION"
        for run in client.read_flow_runs(flow_filter=wanted):
            client.delete_flow_run(run.id)


def submit(server: str, experiment: dict[str, Any]) -> httpx.Response:
    """As the run form does."""
    deployment = httpx.get(f"{server}/deployments/name/train-flow/train-flow").json()
    body = {"parameters": {"experiment": experiment}, "state": {"type": "SCHEDULED"}}
    return httpx.post(f"{server}/deployments/{deployment['id']}/create_flow_run", json=body)


def test_the_server_takes_what_a_form_sends_and_refuses_what_is_wrong(deployed: str) -> None:
    made = [
        submit(deployed, EXPERIMENT),
        submit(deployed, EXPERIMENT | {"optimizer": {"name": "sgd", "lr": 0.1, "beta1": 0.5}}),
    ]
    for answer in made:
        assert answer.status_code == 201, answer.text
        httpx.delete(f"{deployed}/flow_runs/{answer.json()['id']}").raise_for_status()
    wrong = submit(deployed, EXPERIMENT | {"optimizer": {"name": "sgd", "learning_rate": 0.1}})
    assert wrong.status_code == 409
    assert "'learning_rate' is not one of" in wrong.text


def test_the_doctor_names_what_a_server_without_worker_lacks_and_a_form_of_other_plugins(
    deployed: str, typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    deployment = httpx.get(f"{deployed}/deployments/name/train-flow/train-flow").json()
    place, form = f"{deployed}/deployments/{deployment['id']}", deployment["parameter_openapi_schema"]
    as_it_was = deepcopy(form)
    networks = form["definitions"]["Experiment"]["properties"]["architecture"]
    networks["anyOf"] = [tab for tab in networks["anyOf"] if tab["title"] != "resnet"]
    httpx.patch(place, json={"parameter_openapi_schema": form}).raise_for_status()
    with temporary_settings({PREFECT_API_URL: deployed}):
        code = typed("up", "--check")
    httpx.patch(place, json={"parameter_openapi_schema": as_it_was}).raise_for_status()
    assert code == 1
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "architecture resnet is missing in the form" in said
    assert "histoflow deploy" in said
    assert "prefect global-concurrency-limit create gpu --limit 1" in said
    assert "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE" in said, "this server keeps leases in memory"


def test_without_a_server_deploy_says_how_to_get_one(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("deploy") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "Start one with 'histoflow up', or name yours in PREFECT_API_URL" in told


def test_the_doctor_says_before_the_start_that_a_stranger_has_the_port(
    typed: Typed, capsys: pytest.CaptureFixture[str], prefect_server: str
) -> None:
    port = prefect_server.rpartition(":")[2].removesuffix("/api")
    assert typed("up", "--check", "--json", "--port", port) == 1
    found = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found["port"]["status"] == "fail"
    assert f"Port {port} of 127.0.0.1 is taken by process" in found["port"]["advice"]
    assert found["Prefect"]["status"] == "ok"


def test_the_doctor_says_that_the_home_cannot_be_written(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "file" / "home"))
    assert typed("up", "--check", "--json") == 1
    (home,) = json.loads(capsys.readouterr().out)
    assert home["status"] == "fail"
    assert "Set HISTOFLOW_HOME to a folder that you may write to" in home["advice"]
