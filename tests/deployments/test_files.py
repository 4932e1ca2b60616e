"""The files for clusters are valid, safe by default, and name only what exists. No engine is at hand to run them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from prefect.cli._app import _app as prefect
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names
from prefect_kubernetes.settings import KubernetesSettings
from ruamel.yaml import YAML

import compose
from compose import DEPLOYMENTS
from histoflow_flows.cli import app
from kubernetes_objects import unknown_keys

histoflow: Any = typer.main.get_command(app)
ROOT = DEPLOYMENTS.parent
SECRETS = {"POSTGRES_PASSWORD": "sesame", "PREFECT_SERVER_API_AUTH_STRING": "user:open"}
SERVICES = compose.services(SECRETS)
DOCKERFILE = (DEPLOYMENTS / "Dockerfile").read_text()
MANIFEST = (DEPLOYMENTS / "kubernetes" / "histoflow.yaml").read_text()
OBJECTS = [*YAML(typ="safe", pure=True).load_all(MANIFEST)]
SCRIPTS = [DEPLOYMENTS / "end-gently.sh", DEPLOYMENTS / "slurm" / "worker.sbatch"]


def tool(name: str, *arguments: str | Path) -> None:
    """A checker of this environment finds nothing to say."""
    done = subprocess.run([Path(sys.executable).parent / name, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def kubernetes(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in OBJECTS if (one["kind"], one["metadata"]["name"]) == (kind, name))


def container(name: str) -> dict[str, Any]:
    """The only container of a Deployment."""
    (found,) = kubernetes("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def kubernetes_environment(name: str) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container(name)["env"]}


def calls(command: list[str]) -> list[str]:
    """The programs that a container's command runs, also those inside of ``sh -c``."""
    if command[:2] == ["sh", "-c"]:
        return [call.strip(" ()") for call in re.split(r"&&|\|\|", command[2])]
    return [shlex.join(command)]


CALLS = sorted(
    {
        call
        for command in (
            *(service["command"] for service in SERVICES.values() if "command" in service),
            *(container(name)["args"] for name in ("server", "worker", "reaper")),
        )
        for call in calls(command)
    }
)


def test_the_compose_file_follows_the_compose_specification() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", compose.FILE)


def test_the_dockerfile_has_no_known_mistake() -> None:
    tool("hadolint", DEPLOYMENTS / "Dockerfile")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_have_no_known_mistake(script: Path) -> None:
    tool("shellcheck", script)
    assert script.name == "worker.sbatch" or script.stat().st_mode & 0o111


@pytest.mark.parametrize("secret", SECRETS)
def test_compose_demands_each_secret(secret: str) -> None:
    with pytest.raises(compose.MissingVariable, match="choose"):
        compose.services({name: value for name, value in SECRETS.items() if name != secret})


def test_every_variable_of_the_compose_file_is_documented() -> None:
    documentation = (ROOT / "docs" / "cluster.md").read_text()
    assert {name for name in compose.names() if f"`{name}`" not in documentation} == set()


def test_only_the_server_is_reachable_and_only_from_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"server": ["127.0.0.1:4200:4200"]}


def test_the_kubernetes_server_is_told_what_the_compose_server_is_told() -> None:
    theirs = kubernetes_environment("server")
    ours = {key: value for key, value in SERVICES["server"]["environment"].items() if "_DATABASE_" not in key}
    del ours["PREFECT_SERVER_API_AUTH_STRING"]
    assert {key: theirs.get(key) for key in ours} == ours
    client = kubernetes("ConfigMap", "client")["data"]
    assert {**client, "PREFECT_API_AUTH_STRING": "user:open"} == SERVICES["worker"]["environment"]


def test_secrets_of_kubernetes_come_from_a_secret() -> None:
    for entry in (entry for name in ("server", "worker", "reaper") for entry in container(name)["env"]):
        if entry["name"].endswith(("_AUTH_STRING", "_CONNECTION_URL")):
            assert entry["valueFrom"]["secretKeyRef"]["name"] == "histoflow", entry["name"]
    assert "kind: Secret\n" not in MANIFEST


def test_every_setting_of_prefect_is_one_that_it_knows() -> None:
    files = [path for path in DEPLOYMENTS.rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"\bPREFECT_[A-Z_]+", path.read_text())}
    of_kubernetes = {
        f"PREFECT_INTEGRATIONS_KUBERNETES_{part}_{field}".upper()
        for part in ("worker", "observer")
        for field in getattr(KubernetesSettings(), part).__class__.model_fields
    }
    assert named - _get_valid_setting_names(Settings) - of_kubernetes == set()


@pytest.mark.parametrize("call", CALLS)
def test_every_command_exists_with_its_options(call: str) -> None:
    program, *arguments = shlex.split(call)
    if program == "prefect":
        prefect.parse_args(arguments, print_error=False, exit_on_error=False)
        return
    assert program == "histoflow"
    name, *options = arguments
    histoflow.commands[name].make_context(name, options)


def test_every_kubernetes_object_is_one_that_kubernetes_knows() -> None:
    groups = {"v1": "V1", "apps/v1": "V1", "rbac.authorization.k8s.io/v1": "V1"}
    assert OBJECTS
    for one in OBJECTS:
        assert unknown_keys(one, groups[one["apiVersion"]] + one["kind"]) == []


def test_the_parts_of_the_kubernetes_manifest_fit_together() -> None:
    claims = {one["metadata"]["name"] for one in OBJECTS if one["kind"] == "PersistentVolumeClaim"}
    for one in (one for one in OBJECTS if one["kind"] == "Deployment"):
        pod = one["spec"]["template"]
        assert pod["metadata"]["labels"] == one["spec"]["selector"]["matchLabels"]
        volumes = {
            volume["name"]: volume["persistentVolumeClaim"] for volume in pod["spec"].get("volumes", ())
        }
        assert {claim["claimName"] for claim in volumes.values()} <= claims
        assert {mount["name"] for mount in container(one["metadata"]["name"]).get("volumeMounts", ())} == set(
            volumes
        )
    assert kubernetes("Service", "server")["spec"]["selector"] == {"app": "server"}


def test_the_images_of_the_files_are_those_that_the_dockerfile_builds() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.M))
    built = {
        service["image"]: service["build"]["target"] for service in SERVICES.values() if "build" in service
    }
    assert built == {"histoflow": "histoflow", "histoflow-prefect": "prefect"}
    assert set(built.values()) <= targets
    used = {container(name)["image"].removesuffix(":latest") for name in ("server", "worker", "reaper")}
    assert used == set(built)


def test_the_wheel_builds_from_what_docker_is_given(tmp_path: Path) -> None:
    allowed = [
        line[1:]
        for line in (DEPLOYMENTS / "Dockerfile.dockerignore").read_text().splitlines()
        if line[:1] == "!"
    ]
    for name in allowed:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    for name in re.findall(r"source=([\w./]+),target=/tmp|^COPY .*?(\S+/\S+) /usr", DOCKERFILE, re.M):
        assert (tmp_path / "".join(name)).exists(), name
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation")
    subprocess.run([*build, "--outdir", tmp_path / "dist", tmp_path], check=True, capture_output=True)
    names = zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))).namelist()
    assert {"histoflow", "histoflow_plugins", "histoflow_flows"} <= {name.split("/")[0] for name in names}
    assert "histoflow/recipes/demo.yaml" in names
    assert "histoflow_flows/prefect.yaml" in names


def test_the_slurm_script_says_what_it_needs() -> None:
    done = subprocess.run(["bash", SCRIPTS[1]], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "PREFECT_API_URL: is the address of the Prefect server" in done.stderr
