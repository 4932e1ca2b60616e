"""The commands around a running system: up, down and deploy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from histoflow_flows import display
from histoflow_flows.service.settings import HOST, PORT, Settings

if TYPE_CHECKING:
    from histoflow_flows.service.findings import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(up)
    app.command()(down)
    app.command()(deploy)


def up(
    port: Annotated[
        int, typer.Option(min=1, max=65535, envvar="PREFECT_SERVER_API_PORT", help="The server's port.")
    ] = PORT,
    host: Annotated[
        str,
        typer.Option(
            envvar="PREFECT_SERVER_API_HOST",
            help="The server's address; any but this machine's own "
            "asks for a password in PREFECT_SERVER_API_AUTH_STRING.",
        ),
    ] = HOST,
    gpu_slots: Annotated[
        int | None, typer.Option(min=1, help="Trainings at the same time; otherwise one a GPU.")
    ] = None,
    worker: Annotated[bool, typer.Option(help="Whether to start a worker, too.")] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Start nothing; tell what is wrong or missing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check: print data for other programs.")
    ] = False,
) -> None:
    """Start a Prefect server with all deployments and a worker; Ctrl-C stops them."""
    settings = Settings(host, port, gpu_slots, worker)
    if check:
        _check(settings, as_json)
        return
    from histoflow_flows.service import up as service

    service.run(settings, _say)


def down() -> None:
    """End a running 'histoflow up', or what a killed one left behind."""
    from histoflow_flows.service import up as service

    service.down(_say)


def deploy() -> None:
    """Renew all deployments on the server in use, as after installing a plugin."""
    from histoflow_flows import prefect_setup

    prefect_setup.prepare(debug=False)
    prefect_setup.demand_server()
    from histoflow_flows.service import deploying

    _say(f"Deployed: {', '.join(deploying.deploy())}.")


def _check(settings: Settings, as_json: bool) -> None:
    from histoflow_flows.service import doctor

    findings = doctor.examine(settings, _server_in_use)
    if as_json:
        typer.echo(json.dumps([finding.to_data() for finding in findings], indent=2))
    else:
        display.out.print(_table(findings))
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _server_in_use() -> str | None:
    from histoflow_flows import prefect_setup

    prefect_setup.prepare(debug=False)
    return prefect_setup.server_in_use()


def _table(findings: list[Finding]) -> Table:
    drawn = Table("check", "", "found", "what to do")
    for one in findings:
        drawn.add_row(one.check, Text(one.status, _STYLES[one.status]), Text(one.told), Text(one.advice))
    return drawn


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
