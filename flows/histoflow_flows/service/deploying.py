"""Sends all deployments of the shipped prefect.yaml to the server in use.

Talks to the server of the process's own settings; import it only when the environment is complete.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from ruamel.yaml import YAML

from histoflow.errors import HistoflowError
from histoflow.files import yaml_of


def shipped() -> dict[str, Any]:
    """The content of prefect.yaml: beside an installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed, checkout = package / "prefect.yaml", package.parents[1] / "deployments" / "prefect.yaml"
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(installed if installed.is_file() else checkout)
    return content


def deploy() -> list[str]:
    """Deploy all, with the run forms of the plugins that are installed now; returns their names.

    Schedules, parameters and whether a trigger is switched on are taken from prefect.yaml only where a
    deployment is new. Later they belong to the people who switch and change them in the UI.
    """
    content = shipped()
    with get_client(sync_client=True) as client:
        for entry in content["deployments"]:
            standing = standing_deployment(client, entry["name"])
            if standing is not None:
                entry.pop("schedules", None)
                entry["parameters"] = standing.parameters
                keep_switches(client, entry.get("triggers", ()))
    with tempfile.TemporaryDirectory(prefix="histoflow-deploy-") as folder:
        path = Path(folder) / "prefect.yaml"
        path.write_text(yaml_of(content), encoding="utf-8")
        _have_prefect_deploy(path)
    return [entry["name"] for entry in content["deployments"]]


def keep_switches(client: SyncPrefectClient, triggers: Iterable[dict[str, Any]]) -> None:
    """Prefect makes the triggers of a deployment anew each time, as automations of these names."""
    for trigger in triggers:
        standing = client.read_automations_by_name(trigger["name"])
        if standing:
            trigger["enabled"] = standing[0].enabled


def standing_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """The deployment as the server has it; each bears the name of its flow."""
    try:
        return client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        return None


def _have_prefect_deploy(path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)],
        cwd=path.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{done.stdout}{done.stderr}".strip()
    if done.returncode != 0:
        raise HistoflowError(
            f"Prefect refused a deployment. Correct its parameters in the UI if they ask for what is no "
            f"longer installed, then run: histoflow deploy. Prefect said:\n{said}"
        )
