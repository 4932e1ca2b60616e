"""The shipped work-pool templates become what Kubernetes and Docker are really asked for."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.cli import invoke_and_assert
from ruamel.yaml import YAML

from compose import DEPLOYMENTS, services
from kubernetes_objects import unknown_keys

API = "http://server:4200/api"
Request = Callable[..., dict[str, Any]]
TEMPLATES = {kind: DEPLOYMENTS / "work-pools" / f"{kind}.json" for kind in ("kubernetes", "docker")}
SECRETS = {"POSTGRES_PASSWORD": "a", "PREFECT_SERVER_API_AUTH_STRING": "b:c"}


def template(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(TEMPLATES[kind].read_text())
    return loaded


async def configured(worker: type[Any], values: dict[str, Any], server: str) -> Any:
    """The worker's own job configuration for a flow run with these job variables."""
    async with PrefectClient(server) as client:
        render = worker.job_configuration.from_template_and_values
        configuration = await render(template(worker.type), values, client=client)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-owl"))
    return configuration


@pytest.fixture
def kubernetes_job(prefect_server: str) -> Request:
    """What the worker asks Kubernetes for, given job variables."""
    from prefect_kubernetes.worker import KubernetesWorker  # not when the tests are collected: it takes long

    return lambda **values: asyncio.run(configured(KubernetesWorker, values, prefect_server)).job_manifest


@pytest.fixture
def docker_container(prefect_server: str) -> Request:
    """What the worker asks Docker's engine for, given job variables."""
    import docker
    from docker.models.containers import _create_container_args
    from prefect_docker.worker import DockerWorker

    def request(**values: Any) -> dict[str, Any]:
        with temporary_settings({PREFECT_API_URL: API}):
            configuration = asyncio.run(configured(DockerWorker, values, prefect_server))
            worker = DockerWorker(work_pool_name="gpu", test_mode=True)
            settings = worker._build_container_settings(docker.DockerClient(version="1.43"), configuration)
        sent: dict[str, Any] = _create_container_args({**settings, "version": "1.43"})
        return sent

    return request


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_variable_is_used_and_every_placeholder_is_a_variable(kind: str) -> None:
    found = template(kind)
    placeholders = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(found["job_configuration"])))
    assert placeholders == set(found["variables"]["properties"])


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_variable_explains_itself_and_has_a_valid_default(kind: str) -> None:
    for name, schema in template(kind)["variables"]["properties"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["title"], name
        assert schema["description"].endswith("."), name
        if "default" in schema:
            jsonschema.validate(schema["default"], schema)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_server_takes_the_template(kind: str, prefect_here: str) -> None:
    command = ["work-pool", "create", f"from-template-{kind}", "--type", kind]
    invoke_and_assert(
        [*command, "--base-job-template", str(TEMPLATES[kind])],
        expected_output_contains=f"Created work pool 'from-template-{kind}'",
    )


def test_the_kubernetes_job_is_one_that_kubernetes_knows(kubernetes_job: Request) -> None:
    job = kubernetes_job(node_selector={"disk": "fast"})
    assert unknown_keys(job, "V1Job") == ["V1PodSpec.parallelism", "V1PodSpec.completions"], (
        "these two Prefect's worker demands at this place"
    )


def test_a_misspelt_key_of_a_kubernetes_object_is_noticed(kubernetes_job: Request) -> None:
    job = kubernetes_job()
    job["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    assert "V1Container.resource" in unknown_keys(job, "V1Job")


def test_the_kubernetes_job_gets_its_gpu_the_shared_home_and_time_for_a_last_checkpoint(
    kubernetes_job: Request,
) -> None:
    pod = kubernetes_job(gpus=2, memory="64Gi", grace_seconds=120)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 2}
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts == {"home": "/var/lib/histoflow", "shared-memory": "/dev/shm"}
    assert volumes["home"] == {"name": "home", "persistentVolumeClaim": {"claimName": "histoflow-home"}}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}


def test_an_evicted_kubernetes_job_puts_its_flow_run_back_in_the_queue(kubernetes_job: Request) -> None:
    environment = kubernetes_job()["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "value": "reschedule"} in environment


def test_the_docker_container_gets_its_gpu_and_the_compose_files_volume_and_network(
    docker_container: Request,
) -> None:
    request = docker_container()
    host = request["host_config"]
    shipped = YAML(typ="safe", pure=True).load((DEPLOYMENTS / "compose.yaml").read_text())
    assert host["DeviceRequests"] == [
        {"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]], "DeviceIDs": [], "Options": {}}
    ]
    assert host["ShmSize"] == 4 * 2**30
    assert host["Binds"] == [f"{shipped['volumes']['home']['name']}:/var/lib/histoflow"]
    assert request["networking_config"] == {shipped["networks"]["default"]["name"]: None}
    assert request["image"] == services(SECRETS)["worker"]["image"] + ":latest"
    assert request["environment"]["PREFECT_API_URL"] == API


def test_the_docker_container_without_a_gpu_asks_for_none(docker_container: Request) -> None:
    assert docker_container(device_requests=[])["host_config"].get("DeviceRequests", []) == []
