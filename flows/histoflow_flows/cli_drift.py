"""The command about drift. It reads what predictions have kept, and needs neither Prefect nor a device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from histoflow import references
from histoflow_flows import display

if TYPE_CHECKING:
    from histoflow.drifting import Difference, Drift

OUTSIDE, TOO_FEW = 3, 2
"""Exit codes."""


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(drift)


def drift(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A run: its id, part of it, its folder, or 'latest'. Or a model: colon, or colon@3.",
        ),
    ],
    last: Annotated[int, typer.Option(metavar="N", help="The latest N predictions, taken together.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """Tell whether the images last predicted look, and are answered, like validation: exit 0, or 3 if not."""
    found = references.find(run)
    from histoflow.drifting import look

    seen = look(found, last)
    if as_json:
        typer.echo(json.dumps({"run": found.id, **seen.to_json()}, indent=2))
    else:
        _show(found.id, seen)
    if not seen.told or seen.outside:
        raise typer.Exit(OUTSIDE if seen.told else TOO_FEW)


def _show(run: str, seen: Drift) -> None:
    if seen.told:
        times = "the latest prediction" if seen.predictions == 1 else f"{seen.predictions} predictions"
        title = f"{run}: {seen.images:,} images of {times}, held against validation"
        columns = ("figure", "distance", "band", "")
        display.out.print(display.table(title, columns, [_row(one) for one in seen.differences]))
    for line in (_problems(seen), seen.note, seen.words):
        if line:
            display.out.print(line, markup=False, highlight=False, soft_wrap=True)


def _row(one: Difference) -> tuple[str, ...]:
    if one.distance is None:
        return one.figure, "–", "–", one.words
    return one.figure, f"{one.distance:.3f}", f"{one.band:.3f}", "outside" if one.outside else "inside"


def _problems(seen: Drift) -> str:
    if not seen.problems:
        return ""
    return f"{seen.problems:,} of {seen.images + seen.problems:,} images could not be predicted."
