"""Lets ``prefect deployment run train-flow`` find the server of ``histoflow up``, and the deployment
``train-flow/train-flow``.

A plugin of Prefect's own, under its entry-point group ``prefect.plugins``; it is asked only where plugins are
enabled (``PREFECT_PLUGINS_ENABLED=1``, or ``[tool.prefect.plugins]`` in the pyproject.toml of the folder).
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.plugins import HookContext, SetupResult, register_hook

from histoflow_flows.service import record


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Called by Prefect once before a command; wrapping twice would do no harm but is not done."""
    read = PrefectClient.read_deployment_by_name
    if not hasattr(read, "__wrapped__"):
        PrefectClient.read_deployment_by_name = _completing(read)  # type: ignore[method-assign]
    connection = {} if ctx.api_url else record.connection()
    return SetupResult(env=connection, note="the server of histoflow up") if connection else None


def _completing(read: Any) -> Any:
    @wraps(read)
    async def read_deployment_by_name(client: PrefectClient, name: str) -> Any:
        return await read(client, await _full_name(client, name))

    return read_deployment_by_name


async def _full_name(client: PrefectClient, name: str) -> str:
    """FLOW/DEPLOYMENT where exactly one deployment has the bare name; else the name, for Prefect to judge."""
    if "/" in name:
        return name
    named = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    fitting = await client.read_deployments(deployment_filter=named)
    if len(fitting) != 1:
        return name
    flow = await client.read_flow(fitting[0].flow_id)
    return f"{flow.name}/{name}"
