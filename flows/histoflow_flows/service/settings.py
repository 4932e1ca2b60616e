"""What the server, the worker and every flow run of ``histoflow up`` are told."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass

from histoflow import home
from histoflow.errors import UserError

POOL = "gpu"
"""The name of the work pool, and of the concurrency limit whose slots are the GPUs."""

HOST = "127.0.0.1"
PORT = 4200

_YEAR = 365 * 24 * 3600

_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # In memory, a slot whose holder died would stay taken for ever after the server's next start.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(_YEAR),
    "PREFECT_WORKER_QUERY_SECONDS": "3",
}


@dataclass(frozen=True)
class Settings:
    host: str = HOST
    port: int = PORT
    gpu_slots: int | None = None
    """None: one for each GPU that torch sees, and one where it sees none."""
    worker: bool = True

    @property
    def is_local(self) -> bool:
        """Whether nobody but the users of this machine can reach the server."""
        return self.host == "localhost" or (_is_address(self.host) and _address(self.host).is_loopback)

    @property
    def url(self) -> str:
        """The address of the server as this machine reaches it."""
        host = self.host
        if _is_address(host) and _address(host).is_unspecified:
            host = HOST if _address(host).version == 4 else "::1"
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"


def environment(settings: Settings, outer: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment of the processes to start; the user's own variables win over the defaults."""
    addresses = {
        "HISTOFLOW_HOME": str(home.folder()),
        "PREFECT_HOME": str(home.prefect()),
        "PREFECT_API_URL": settings.api_url,
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(settings.port),
    }
    return {**_DEFAULTS, **outer, **_security(settings, outer), **addresses}


def _security(settings: Settings, outer: Mapping[str, str]) -> dict[str, str]:
    """A password for whoever is not on this machine, and for a browser that is led astray."""
    secret = outer.get("PREFECT_SERVER_API_AUTH_STRING", "")
    if not settings.is_local and not _is_auth_string(secret):
        raise UserError(
            f"Whoever reaches the server can run commands on its workers, so host {settings.host} needs a "
            f"password: PREFECT_SERVER_API_AUTH_STRING must be USER:PASSWORD. Got "
            f"{'something else' if secret else 'nothing'}. Export it, or stay with --host {HOST}."
        )
    told = {"PREFECT_API_AUTH_STRING": secret} if secret else {}
    if settings.is_local:
        return told
    # The browsers of other machines must not be sent to their own 127.0.0.1.
    return {"PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true", "PREFECT_UI_API_URL": "/api", **told}


def _is_auth_string(text: str) -> bool:
    user, _, password = text.partition(":")
    return bool(user and password)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


def _is_address(host: str) -> bool:
    try:
        _address(host)
    except ValueError:
        return False
    return True
