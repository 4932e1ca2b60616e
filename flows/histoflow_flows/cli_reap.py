"""The command that sets lost flow runs going again, where no ``histoflow up`` does."""

from __future__ import annotations

from typing import Annotated

import typer

from histoflow_flows import display


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(reap)


def reap(
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Look again and again, until Ctrl-C."),
    ] = None,
) -> None:
    """Find flow runs that nobody works on any more, and set crashed ones going again.

    For a server without a 'histoflow up', which does it itself. Run one beside each server, on the
    HISTOFLOW_HOME that all its workers share.
    """
    from histoflow_flows import prefect_setup

    prefect_setup.prepare(debug=False)
    address = prefect_setup.demand_server()
    from histoflow_flows.reaper import Reaper
    from histoflow_flows.service.reaping import Reaping

    reaper = Reaper()
    if every is None:
        for line in reaper.sweep() or ["Nothing is lost."]:
            _say(line)
        return
    _say(f"Looking for lost flow runs at {address} every {every:g} s.")
    Reaping(reaper.sweep, _say, every).run()


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
