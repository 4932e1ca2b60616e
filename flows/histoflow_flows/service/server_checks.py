"""Checks of the server in use, its worker and its deployments.

Talks to the server of the process's own settings; import it only when the environment is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect import __version__
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from histoflow_flows.service import record
from histoflow_flows.service.deploying import shipped, standing_deployment
from histoflow_flows.service.findings import Finding
from histoflow_flows.service.form_changes import changes, form_of
from histoflow_flows.service.settings import POOL

HEARTBEAT_VARIABLE = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
_PREFECTS_HEARTBEAT = 180
_SLOW_HEARTBEAT = 60


def all_checks(address: str) -> list[Finding]:
    """All of them, or the first alone where the server does not answer as it should."""
    with get_client(httpx_settings={"timeout": 10}, sync_client=True) as client:
        reached = _reached(client, address)
        if reached.status == "fail":
            return [reached]
        checks = (_version, _storage, _pool, _workers, _limit, _deployments)
        return [reached, *(finding for check in checks for finding in check(client))]


def _reached(client: SyncPrefectClient, address: str) -> Finding:
    try:
        client.request("GET", "/admin/version")
    except httpx.TransportError as error:
        advice = "Start it with 'histoflow up', or correct PREFECT_API_URL."
        return Finding("server", "fail", f"{address} does not answer ({type(error).__name__})", advice)
    except PrefectHTTPStatusError as error:
        if error.response.status_code == httpx.codes.UNAUTHORIZED:
            advice = "Export PREFECT_API_AUTH_STRING as it was set for the server."
            return Finding("server", "fail", f"{address} asks for a password", advice)
        return Finding("server", "fail", f"{address} answered {error.response.status_code}", str(error))
    return Finding("server", "ok", f"{address} answers")


def _version(client: SyncPrefectClient) -> Iterator[Finding]:
    theirs = client.request("GET", "/admin/version").json()
    if theirs == __version__:
        yield Finding("version", "ok", f"Prefect {theirs}, as here")
    else:
        told = f"the server is Prefect {theirs}, here is {__version__}"
        yield Finding("version", "warn", told, "Install the same Prefect on both sides.")


def _storage(client: SyncPrefectClient) -> Iterator[Finding]:
    settings = client.request("GET", "/admin/settings").json()["server"]
    lease = settings["concurrency"]["lease_storage"]
    if lease.endswith(".memory"):
        told = "in the server's memory: the slot of a run that dies stays taken after the server's next start"
        advice = f"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={lease.removesuffix('memory')}filesystem"
        yield Finding("leases", "warn", told, f"Start the server with {advice}")
    else:
        yield Finding("leases", "ok", lease.rpartition(".")[2])
    yield _database(client, settings["database"]["driver"])


def _database(client: SyncPrefectClient, driver: str | None) -> Finding:
    kind = driver or _own_database()
    if kind is None:
        return Finding("database", "ok", "the server does not say which")
    online = sum(worker.status == WorkerStatus.ONLINE for worker in _workers_of(client))
    if kind.startswith("sqlite") and online > 1:
        advice = "Give the server a PostgreSQL in PREFECT_SERVER_DATABASE_CONNECTION_URL."
        return Finding("database", "warn", f"SQLite loses states under {online} workers", advice)
    return Finding("database", "ok", kind)


def _own_database() -> str | None:
    """What the server of our own ``up`` was told; others keep it to themselves."""
    live = record.live()
    server = live.processes["server"].process() if live is not None and "server" in live.processes else None
    if server is None:
        return None
    try:
        address = record.variable(server, "PREFECT_SERVER_DATABASE_CONNECTION_URL")
        return make_url(address).drivername if address else "sqlite"
    except ArgumentError:
        return None


def _pool(client: SyncPrefectClient) -> Iterator[Finding]:
    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        yield Finding(
            "work pool", "fail", f"there is no '{POOL}'", "Start with 'histoflow up', which makes it."
        )
        return
    if pool.is_paused:
        yield Finding("work pool", "warn", f"'{POOL}' is paused", f"prefect work-pool resume {POOL}")
    else:
        yield Finding("work pool", "ok", f"'{POOL}', type {pool.type}")


def _workers(client: SyncPrefectClient) -> Iterator[Finding]:
    workers = _workers_of(client)
    online = [worker for worker in workers if worker.status == WorkerStatus.ONLINE]
    if online:
        yield Finding(
            "worker", "ok", ", ".join(f"{one.name}: {_ago(one.last_heartbeat_time)}" for one in online)
        )
        return
    last = max((one.last_heartbeat_time for one in workers if one.last_heartbeat_time), default=None)
    told = f"none is online; the last one told of itself {_ago(last)}" if last else "there never was one"
    yield Finding("worker", "fail", told, f"prefect worker start --pool {POOL}, or 'histoflow up'")


def _workers_of(client: SyncPrefectClient) -> list[Any]:
    try:
        return list(client.read_workers_for_work_pool(POOL))
    except ObjectNotFound:
        return []


def _ago(moment: datetime | None) -> str:
    return "never" if moment is None else f"{(datetime.now(UTC) - moment).total_seconds():.0f} s ago"


def _limit(client: SyncPrefectClient) -> Iterator[Finding]:
    try:
        limit = client.read_global_concurrency_limit_by_name(POOL)
    except ObjectNotFound:
        advice = f"prefect global-concurrency-limit create {POOL} --limit 1"
        yield Finding("slots", "fail", f"there is no concurrency limit '{POOL}'", advice)
        return
    told = f"{limit.limit - limit.active_slots:g} of {limit.limit} free"
    if not limit.active:
        advice = f"prefect global-concurrency-limit enable {POOL}"
        yield Finding("slots", "warn", f"the concurrency limit '{POOL}' is not active", advice)
    else:
        yield Finding("slots", "ok", told)


def _deployments(client: SyncPrefectClient) -> Iterator[Finding]:
    for entry in shipped()["deployments"]:
        name = entry["name"]
        standing = standing_deployment(client, name)
        if standing is None:
            yield Finding(name, "fail", "is not deployed", "histoflow deploy")
            continue
        yield _form(name, form_of(entry["entrypoint"]), standing.parameter_openapi_schema or {})
        yield from _heartbeat(name, (standing.job_variables or {}).get("env", {}))


def _form(name: str, here: dict[str, Any], deployed: dict[str, Any]) -> Finding:
    found = changes(deployed, here)
    if found:
        advice = "Renew the run form with: histoflow deploy"
        return Finding(name, "warn", f"deployed with other plugins than are here: {'; '.join(found)}", advice)
    return Finding(name, "ok", "deployed, with the form of the plugins that are here")


def _heartbeat(name: str, environment: dict[str, str]) -> Iterator[Finding]:
    seconds = float(environment.get(HEARTBEAT_VARIABLE) or _PREFECTS_HEARTBEAT)
    if seconds > _SLOW_HEARTBEAT:
        told = f"its runs send a heartbeat only every {seconds:g} s"
        advice = f"Set {HEARTBEAT_VARIABLE} in the deployment's job variable 'env' to 30."
        yield Finding(name, "warn", told, advice)
