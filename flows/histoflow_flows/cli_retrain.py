"""The command that retrains: a challenger is trained, and takes the champion's place if it is good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histoflow import folders, home, recipes, runs
from histoflow.errors import UserError
from histoflow.experiment import Experiment, load
from histoflow.runs import Run
from histoflow.stages import experiment_of
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.retraining.asked import Asked
    from histoflow.retraining.gate import Gate

Environment = Callable[[], AbstractContextManager[None]]
"""Prefect's settings and progress bars, for what runs inside."""


# ── What is trained ─────────────────────────────────────────────────────────────────────────────

_Source = Annotated[
    str | None, typer.Argument(metavar="[RECIPE|FILE]", help="A shipped recipe, or an experiment's YAML.")
]
_Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one setting, such as training.epochs=3."),
]
_Resume = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Go on with this run, as it was begun: without other options."),
]

# ── As the challenger of which champion ─────────────────────────────────────────────────────────

_Name = Annotated[str | None, typer.Option(help="The model; otherwise the one named as the experiment.")]
_Gate = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Change what the gate asks for, such as margin=0.02."),
]
_WarmStart = Annotated[bool, typer.Option("--warm-start", help="Begin with the champion's weights.")]
_Force = Annotated[bool, typer.Option("--force", help="Train although there is nothing new.")]


def register(app: typer.Typer, environment: Environment) -> None:
    """Add the command."""

    @app.command()
    def retrain(
        source: _Source = None,
        overrides: _Overrides = None,
        name: _Name = None,
        gate: _Gate = None,
        warm_start: _WarmStart = False,
        force: _Force = False,
        resume: _Resume = None,
    ) -> None:
        """Train a challenger if there is anything new, and promote it if it is shown to be good enough.

        Both models predict the same sealed test images. One of which too little is shown is held; then
        'histoflow promote NAME@VERSION' promotes it.
        """
        if (source is None) == (resume is None):
            raise UserError(_what_to_name(source, resume))
        if resume is None:
            experiment = load(str(source), overrides or ())
            run_id = runs.new_id(experiment.name)
            asked = _asked(name or experiment.name, gate or (), warm_start)
        else:
            run = _begun(resume, overrides or ())
            experiment, run_id = experiment_of(run), run.id
            asked = _as_begun(run, name, gate or (), warm_start)
        _run(experiment, run_id, asked, force, environment)


def _run(experiment: Experiment, run_id: str, asked: Asked, force: bool, environment: Environment) -> None:
    display.out.print(f"Run [bold]{run_id}[/]", highlight=False)
    with interruptible(f"To go on: histoflow retrain --resume {run_id}"), environment():
        from histoflow_flows.retrain import retrain_flow

        ended = retrain_flow(
            experiment, asked.name, asked.gate, asked.warm_start, force, run_id=run_id, return_state=True
        )
        ended.result()  # raises what the flow raised
    _show(Run(home.runs() / run_id))


def _what_to_name(source: str | None, resume: str | None) -> str:
    if resume is None:
        return f"Name one experiment (a YAML file or {', '.join(recipes.names())}), or --resume RUN."
    return (
        f"--resume goes on with the experiment of '{resume}', and takes no other one. Got '{source}', too. "
        f"Leave one of them out."
    )


def _begun(reference: str, overrides: Sequence[str]) -> Run:
    """The run that is to go on."""
    if overrides:
        raise UserError("A run is resumed as it was begun: --resume takes no --set. Start a new one instead.")
    run = runs.find(home.runs(), reference)
    folders.refuse_elsewhere(run.folder, home.runs())
    return run


def _as_begun(run: Run, name: str | None, gate: Sequence[str], warm_start: bool) -> Asked:
    """What the run was asked for at its start; options that say otherwise are refused."""
    from histoflow.retraining import asked

    begun = asked.read(run)
    asked.refuse_others(begun, _asked(name or begun.name, gate, warm_start or begun.warm_start, begun.gate))
    return begun


def _asked(name: str, told: Sequence[str], warm_start: bool, usual: Gate | None = None) -> Asked:
    """With the usual gate, of which these settings are changed."""
    from histoflow._overrides import apply_override
    from histoflow.retraining.asked import Asked
    from histoflow.retraining.gate import parse_gate

    data: dict[str, Any] = usual.model_dump() if usual else {}
    for override in told:
        apply_override(data, override)
    return Asked(name=name, gate=parse_gate(data, "--gate"), warm_start=warm_start)


def _show(run: Run) -> None:
    from histoflow.retraining import verdict_record
    from histoflow.retraining.deciding import FILE

    found = verdict_record.read(run.folder)
    if found is not None and found.verdict.checks:
        rows = [(check.name, check.outcome, check.words) for check in found.verdict.checks]
        display.out.print(display.table("The gate", ("check", "outcome", "in words"), rows))
    for path in (run.folder / FILE, run.folder / "report.html"):
        if path.is_file():
            display.out.print(f"{path}", soft_wrap=True, markup=False, highlight=False)
