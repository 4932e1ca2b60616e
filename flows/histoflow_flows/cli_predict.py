"""The command that predicts. It needs no Prefect: nothing is orchestrated, and it starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from histoflow import home, progress, runs
from histoflow.errors import UserError
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(predict)


def predict(
    run: Annotated[str, typer.Argument(help="The run's id, part of it, its folder, or 'latest'.")],
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files, and folders that are searched for them.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The Parquet file to write.")] = Path(
        "predictions.parquet"
    ),
    tta: Annotated[
        str,
        typer.Option(
            metavar="none|flips|dihedral", help="Average over 1, 4 or 8 views of each image, at their cost."
        ),
    ] = "none",
    device: Annotated[
        str | None, typer.Option(help="Predict on this device, not on the experiment's.")
    ] = None,
    batch_size: Annotated[str, typer.Option(metavar="auto|N", help="Images at once.")] = "auto",
    split: Annotated[
        str | None, typer.Option(metavar="train|val", help="Predict this packed split in place of IMAGES.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
) -> None:
    """Predict images with a run's best model: class and probabilities of each, into a Parquet file."""
    found = runs.find(home.runs(), run)
    chosen: Any = {"split": split, "tta": tta}
    size = _size(batch_size)
    with (
        interruptible("Nothing was written. Predict again when you like."),
        display.showing() as listener,
        progress.listening(listener),
    ):
        from histoflow import stages

        done = stages.predict(
            found, images or (), out=out, device=device, batch_size=size, overwrite=overwrite, **chosen
        )
    display.out.print(
        f"{done.table}: {done.images - done.problems:,} of {done.images:,} images predicted",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def _size(given: str) -> int | None:
    if given == "auto":
        return None
    try:
        return int(given)
    except ValueError as error:
        raise UserError(f"--batch-size must be auto or a whole number. Got '{given}'.") from error
