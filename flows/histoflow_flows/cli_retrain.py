"""The command that retrains: a challenger is trained, and takes the champion's place if it is good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histoflow import home, recipes, runs
from histoflow.errors import UserError
from histoflow.experiment import Experiment, load
from histoflow.runs import Run
from histoflow.stages import experiment_of
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.retraining.gate import Gate

Environment = Callable[[], AbstractContextManager[None]]
"""Prefect's settings and progress bars, for what runs inside."""


def register(app: typer.Typer, environment: Environment) -> None:
    """Add the command."""

    @app.command()
    def retrain(
        source: Annotated[
            str | None,
            typer.Argument(metavar="[RECIPE|FILE]", help="A shipped recipe, or an experiment's YAML."),
        ] = None,
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="A.B=C", help="Change one setting, such as training.epochs=3."),
        ] = None,
        name: Annotated[
            str | None, typer.Option(help="The model; otherwise the one named as the experiment.")
        ] = None,
        gate: Annotated[
            list[str] | None,
            typer.Option(metavar="KEY=VALUE", help="Change what the gate asks for, such as margin=0.02."),
        ] = None,
        warm_start: Annotated[
            bool, typer.Option("--warm-start", help="Begin with the champion's weights.")
        ] = False,
        force: Annotated[bool, typer.Option("--force", help="Train although there is nothing new.")] = False,
        resume: Annotated[
            str | None,
            typer.Option(metavar="RUN", help="Go on with this run; other options as when it began."),
        ] = None,
    ) -> None:
        """Train a challenger if there is anything new, and promote it if it is shown to be good enough.

        Both models predict the same sealed test images. One of which too little is shown is held; then
        'histoflow promote NAME@VERSION' promotes it.
        """
        settings = _gate(gate or ())
        experiment, run_id = _begun(source, resume, overrides or ())
        with interruptible(f"To go on: histoflow retrain --resume {run_id}"), environment():
            from histoflow_flows.retrain import retrain_flow

            ended = retrain_flow(
                experiment, name, settings, warm_start, force, run_id=run_id, return_state=True
            )
            ended.result()  # raises what the flow raised
        _show(Run(home.runs() / run_id), str(ended.message))


def _gate(told: Sequence[str]) -> Gate:
    """The usual gate with these settings changed."""
    from histoflow._overrides import apply_override
    from histoflow.retraining.gate import parse_gate

    data: dict[str, Any] = {}
    for override in told:
        apply_override(data, override)
    return parse_gate(data, "--gate")


def _begun(source: str | None, resume: str | None, overrides: Sequence[str]) -> tuple[Experiment, str]:
    """The experiment, and the id of its run."""
    if (source is None) == (resume is None):
        raise UserError(
            f"Name one experiment (a YAML file or {', '.join(recipes.names())}), or --resume RUN."
        )
    if resume is None:
        experiment = load(str(source), overrides)
        return experiment, runs.new_id(experiment.name)
    if overrides:
        raise UserError("A run is resumed as it was begun: --resume takes no --set. Start a new one instead.")
    run = runs.find(home.runs(), resume)
    return experiment_of(run), run.id


def _show(run: Run, told: str) -> None:
    from histoflow.retraining import verdict_record
    from histoflow.retraining.deciding import FILE

    found = verdict_record.read(run.folder)
    if found is not None and found.verdict.checks:
        rows = [(check.name, check.outcome, check.words) for check in found.verdict.checks]
        display.out.print(display.table("The gate", ("check", "outcome", "in words"), rows))
    display.out.print(told, markup=False, highlight=False)
    for path in (run.folder / FILE, run.folder / "report.html"):
        if path.is_file():
            display.out.print(f"{path}", soft_wrap=True, markup=False, highlight=False)
