"""The command that predicts. It needs no Prefect: nothing is orchestrated, and it starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from histoflow import progress, references
from histoflow.errors import UserError
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(predict)


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A run: its id, part of it, its folder, or 'latest'. Or a model: colon, or colon@3.",
        ),
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files, and folders that are searched for them; or a CSV or Parquet list of them, "
            "with their files in the column 'path'."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The table to write: .parquet, .csv, .json or .jsonl.")
    ] = Path("predictions.parquet"),
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
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Leave probabilities as the network gives them."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
) -> None:
    """Predict images with a run's best model: class, probabilities and prediction set, into a table."""
    found = references.find(run)
    chosen: Any = {"split": split, "tta": tta, "raw": raw}
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
