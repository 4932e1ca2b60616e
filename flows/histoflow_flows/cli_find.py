"""Commands that find settings out, and that explain what they come to here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histoflow import home, progress, registry
from histoflow.experiment import Experiment, load
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.stages import FoundRates


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("lr-find")(lr_find)


def lr_find(
    source: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE", help="A shipped recipe, or an experiment's YAML.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change one setting, such as training.batch_size=64."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps, each at a higher learning rate.")] = 200,
    lowest: Annotated[float, typer.Option("--from", help="The learning rate to begin with.")] = 1e-6,
    highest: Annotated[float, typer.Option("--to", help="The learning rate to end with.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; otherwise a folder in the home.")
    ] = None,
) -> None:
    """Find a learning rate: train for a few steps at rates that grow, and see where the loss falls.

    Only training images are looked at, and no run is made of it.
    """
    experiment = load(source, overrides or ())
    with (
        interruptible("Nothing was found yet: begin again when you like."),
        display.showing() as listener,
        progress.listening(listener),
    ):
        found = _find(experiment, out, steps, lowest, highest)
    _show(found)


def _find(experiment: Experiment, out: Path | None, steps: int, lowest: float, highest: float) -> FoundRates:
    from histoflow import stages
    from histoflow.finding import refuse_bad_range
    from histoflow.runs import new_id

    refuse_bad_range(steps, lowest, highest)  # before data are fetched
    folder = out.absolute() if out else home.lr_finds() / new_id(experiment.name)
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    return stages.find_lr(experiment, packed, folder, steps=steps, lowest=lowest, highest=highest)


def _show(found: FoundRates) -> None:
    rates = (("where the loss fell fastest", found.steepest), ("a tenth of the best", found.tenth_of_best))
    rows = [(name, f"{rate:.2g}") for name, rate in rates if rate is not None]
    if rows:
        display.out.print(display.table("Learning rates", ("suggestion", "learning rate"), rows))
        _say(f"To use it: --set optimizer.lr={found.steepest:.2g}")
    else:
        _say("The loss never fell. Look at the figure, and at other rates by --from and --to.")
    _say(f"{found.folder / 'lr-find.png'}")


def show_explanation(experiment: Experiment, as_json: bool) -> None:
    """Print every decision about how the experiment would be computed on this machine."""
    from histoflow.explaining import explain

    rows = explain(experiment, registry.installed())
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    cells = [(row.setting, row.asked, row.here, row.why) for row in rows]
    display.out.print(display.table("On this machine", ("setting", "asked", "here", "why"), cells))


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
