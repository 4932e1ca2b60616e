"""The command that exports. It needs no Prefect: nothing is orchestrated, and it starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histoflow import progress, references
from histoflow import registry as plugins
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.bundles.bundle import Manifest


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(export)


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A run: its id, part of it, its folder, or 'latest'. Or a model: colon, or colon@3.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The bundle to write, or the folder for it; RUN.histoflow here."),
    ] = None,
    no_onnx: Annotated[bool, typer.Option("--no-onnx", help="Leave out the ONNX form.")] = False,
    no_torch_export: Annotated[
        bool, typer.Option("--no-torch-export", help="Leave out the form of torch.export.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write a run's best model and all that it needs into one file, for histoflow.load_model and others."""
    found = references.find(run)
    name = f"{found.read().id}.histoflow"
    path = out / name if out and out.is_dir() else out or Path(name)
    with (
        interruptible("Nothing was written. Export again when you like."),
        display.showing() as listener,
        progress.listening(listener),
    ):
        from histoflow.bundles.exporting import Wanted, export_run
        from histoflow.stages import experiment_of

        wanted = Wanted(out=path, onnx=not no_onnx, torch_export=not no_torch_export, overwrite=overwrite)
        registry = plugins.installed()
        made = export_run(experiment_of(found, registry), found, wanted, registry)
    _tell(path, made)


def _tell(path: Path, made: Manifest) -> None:
    lines = [f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 {made.sha256}"]
    lines += [
        f"{name} is at most {form.largest_difference:.1e} of a probability away from the run's network, over "
        f"{form.images} {form.checked_on}"
        for name, form in made.forms.items()
    ]
    display.out.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
