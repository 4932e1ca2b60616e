"""The commands about data: bring them, and clear away what nothing needs. Neither needs Prefect."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from histoflow import progress
from histoflow.experiment import load
from histoflow.files import in_units
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(fetch)
    app.command()(gc)


def fetch(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE", help="A shipped recipe, or an experiment's YAML.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change one setting, such as dataset.path=patches."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """Bring the files of an experiment's data set, and tell what has changed since the last time."""
    experiment = load(source, overrides or ())
    with (
        interruptible("What has been brought stays; fetch again to go on."),
        display.showing(display.err if as_json else display.out) as listener,
        progress.listening(listener),
    ):
        from histoflow import stages

        raw = stages.fetch(experiment)
    if as_json:
        typer.echo(json.dumps(raw.model_dump(mode="json"), indent=2))
        return
    display.out.print(
        f"{experiment.dataset.name}: {raw.files:,} files, fingerprint {raw.digest[:16]}", highlight=False
    )
    if not raw.changes and raw.files:
        display.out.print("Nothing has changed since it was last fetched, or this is the first time.")


def gc(
    remove: Annotated[bool, typer.Option("--remove", help="Remove what is listed.")] = False,
    young: Annotated[
        bool, typer.Option("--young", help="Also what was packed within the last hour.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """List packed data that no run refers to; with --remove, remove them. Runs and raw files stay."""
    from histoflow.unused import YOUNG, find_unused
    from histoflow.unused import remove as remove_one

    found = find_unused(0.0 if young else YOUNG)
    gone = [remove_one(one) for one in found] if remove else [False] * len(found)
    rows = [
        {
            "folder": str(one.folder),
            "what": one.what,
            "bytes": one.bytes,
            "hours": one.age / 3600,
            "removed": is_gone,
        }
        for one, is_gone in zip(found, gone, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        _show(rows, removed=remove)


def _show(rows: list[dict[str, Any]], removed: bool) -> None:
    if not rows:
        display.out.print("Nothing is unused: each packed set is referred to by a run, or was just made.")
        return
    cells = [(row["folder"], row["what"], in_units(row["bytes"]), f"{row['hours']:,.0f} h") for row in rows]
    display.out.print(display.table("Unused", ("folder", "what", "size", "last written"), cells))
    total = in_units(sum(row["bytes"] for row in rows if row["removed"] or not removed))
    display.out.print(
        f"{total} removed." if removed else f"{total} in all. To remove them: histoflow gc --remove"
    )
