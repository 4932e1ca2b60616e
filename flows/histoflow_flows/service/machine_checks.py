"""Checks of this machine: what flows need here, and what a server would need to start."""

from __future__ import annotations

import subprocess
import sys

from histoflow import home
from histoflow.errors import HomeError, UserError
from histoflow.files import free_bytes, in_units
from histoflow.registry import installed
from histoflow_flows.service import ports
from histoflow_flows.service.findings import Finding
from histoflow_flows.service.gpus import visible_gpus
from histoflow_flows.service.settings import Settings, environment

_LITTLE_BYTES = 10e9
_TOO_LITTLE_BYTES = 1e9


def all_checks() -> list[Finding]:
    return [_disk(), _plugins(), _gpus()]


def before_start(settings: Settings) -> list[Finding]:
    """What would hinder ``histoflow up``."""
    return [_importable(), _port(settings), _security(settings)]


def home_check() -> Finding:
    try:
        home.runs()
        home.prefect()
    except HomeError as error:
        return Finding("home", "fail", f"{home.folder()} cannot be written", str(error))
    return Finding("home", "ok", str(home.folder()))


def _disk() -> Finding:
    free = free_bytes(home.folder())
    told = f"{in_units(free)} free"
    advice = f"Make room, or set {home.VARIABLE} to a folder on another disk."
    if free < _TOO_LITTLE_BYTES:
        return Finding("disk", "fail", told, advice)
    return Finding("disk", "warn", told, advice) if free < _LITTLE_BYTES else Finding("disk", "ok", told)


def _plugins() -> Finding:
    registry = installed()
    if registry.failures:
        broken = ", ".join(failure.provider.plugin for failure in registry.failures)
        return Finding("plugins", "warn", f"broken: {broken}", "See why with: histoflow plugins")
    return Finding("plugins", "ok", f"{len(registry.components)} components, none broken")


def _gpus() -> Finding:
    count = visible_gpus()
    if count == 0:
        advice = "Where there is one, look at its driver and at CUDA_VISIBLE_DEVICES."
        return Finding("GPU", "warn", "torch sees none; the CPU will be used", advice)
    return Finding("GPU", "ok", f"torch sees {count}")


def _importable() -> Finding:
    command = [sys.executable, "-c", "import prefect.server.api.server"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        advice = "Install the tested versions: pip install --constraint constraints.txt histoflow"
        return Finding("Prefect", "fail", f"its server cannot be imported: {last}", advice)
    return Finding("Prefect", "ok", "its server can be imported")


def _port(settings: Settings) -> Finding:
    try:
        ports.refuse_taken(settings.host, settings.port)
    except UserError as error:
        return Finding("port", "fail", f"{settings.port} cannot be used", str(error))
    return Finding("port", "ok", f"{settings.port} of {settings.host} is free; start with: histoflow up")


def _security(settings: Settings) -> Finding:
    try:
        environment(settings)
    except UserError as error:
        return Finding("security", "fail", "no password is set", str(error))
    reach = "this machine alone" if settings.is_local else "others, with a password"
    return Finding("security", "ok", f"{settings.host} can be reached by {reach}")
