"""Tells what is wrong, or missing, before and while the system runs."""

from __future__ import annotations

from collections.abc import Callable

from histoflow_flows.service import machine_checks, record
from histoflow_flows.service.findings import Finding
from histoflow_flows.service.settings import Settings


def examine(settings: Settings, find_server: Callable[[], str | None]) -> list[Finding]:
    """Look at this machine, and at the server in use if there is one; changes nothing.

    ``find_server`` gives the address of that server, and readies Prefect for talking to it.
    """
    home = machine_checks.home_check()
    if home.status == "fail":
        return [home]  # neither Prefect nor a run has a place then
    findings = [home, *machine_checks.all_checks()]
    left = record.read()
    if left is not None and not left.is_live and record.members(left):
        told = "a killed 'histoflow up' left processes behind"
        findings.append(Finding("left over", "fail", told, "End them with: histoflow down"))
    address = find_server()
    if address is None:
        return [*findings, *machine_checks.before_start(settings)]
    from histoflow_flows.service import server_checks

    return [*findings, *server_checks.all_checks(address)]
