"""The command that tunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from histoflow import home, recipes
from histoflow.errors import UserError
from histoflow.runs import Run
from histoflow.tuning.settings import PrunerName, RunnerName, SamplerName, Tuning, load_tuning
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

Environment = Callable[[], AbstractContextManager[None]]
"""Prefect's settings and progress bars, for what runs inside."""


def _one_of(names: Any, what: str) -> Any:
    legal = get_args(names)
    return typer.Option(metavar="|".join(legal), help=f"{what}.")


# ── Which study ─────────────────────────────────────────────────────────────────────────────────

_Source = Annotated[
    str | None, typer.Argument(metavar="[RECIPE|FILE]", help="A tuning, or the experiment to tune.")
]
_Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change a setting: training.epochs=3, search.seed=1."),
]
_Storage = Annotated[
    str | None, typer.Option(metavar="URL", help="The study's database; otherwise a file in its folder.")
]
_Resume = Annotated[
    str | None, typer.Option(metavar="STUDY", help="Go on with this study: its id, part of it, or 'latest'.")
]

# ── What is tried, and what it is judged by ─────────────────────────────────────────────────────

_Space = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What to search, on top of what the components themselves offer."),
]
_Sampler = Annotated[str | None, _one_of(SamplerName, "How configurations are proposed; otherwise tpe")]
_Pruner = Annotated[str | None, _one_of(PrunerName, "What ends trials early; otherwise none")]
_Trials = Annotated[
    int | None, typer.Option(min=1, help="How many configurations to try; otherwise 20, or the grid.")
]
_Objective = Annotated[
    list[str] | None,
    typer.Option(metavar="FIGURE", help="val_loss, or val_ and a metric. Repeat it for several."),
]
_Retrain = Annotated[
    bool | None, typer.Option("--retrain/--no-retrain", help="Train the best one on all data at the end.")
]

# ── Where trials run ────────────────────────────────────────────────────────────────────────────

_Parallel = Annotated[int | None, typer.Option(min=1, help="How many trials run at once.")]
_Runner = Annotated[str | None, _one_of(RunnerName, "Where trials run; otherwise threads")]
_Address = Annotated[
    str | None, typer.Option(help="The Dask scheduler or Ray head; otherwise one is started here.")
]


def register(app: typer.Typer, environment: Environment, show_result: Callable[[Run], None]) -> None:
    """Add the command."""

    @app.command()
    def tune(
        source: _Source = None,
        space: _Space = None,
        sampler: _Sampler = None,
        pruner: _Pruner = None,
        trials: _Trials = None,
        parallel: _Parallel = None,
        runner: _Runner = None,
        address: _Address = None,
        objective: _Objective = None,
        storage: _Storage = None,
        retrain: _Retrain = None,
        resume: _Resume = None,
        overrides: _Overrides = None,
    ) -> None:
        """Search the settings that serve best, and train them on all data.

        Each trial is a task of the flow tune-flow. The test split stays sealed until the end.
        """
        asked = {
            "sampler": sampler, "pruner": pruner, "trials": trials, "parallel": parallel, "runner": runner,
            "address": address, "objective": objective or None, "storage": storage, "retrain": retrain,
        }  # fmt: skip
        tuning, study = _begun(source, resume, _told(asked, space), overrides or ())
        _run(tuning, study, environment, show_result)


def _told(asked: dict[str, Any], space: Path | None) -> dict[str, Any]:
    """The settings of the search that were given on the command line."""
    told = {name: value for name, value in asked.items() if value is not None}
    return told if space is None else told | {"space": recipes.read_file(space, "space file")}


def _begun(
    source: str | None, resume: str | None, told: dict[str, Any], overrides: Any
) -> tuple[Tuning, str]:
    if (source is None) == (resume is None):
        raise UserError(
            f"Name one tuning or experiment (a YAML file or {', '.join(recipes.names())}), or --resume STUDY."
        )
    return _new(str(source), told, overrides) if resume is None else _resumed(resume, told, overrides)


def _new(source: str, told: dict[str, Any], overrides: Any) -> tuple[Tuning, str]:
    from histoflow.runs import new_id
    from histoflow.tuning.checking import space_of

    tuning = load_tuning(source, overrides, told)
    space_of(tuning, source=source)
    return tuning, new_id(tuning.experiment.name)


def _resumed(reference: str, told: dict[str, Any], overrides: Any) -> tuple[Tuning, str]:
    from histoflow.tuning import study as studies
    from histoflow.tuning.settings import parse_search

    refused = [f"--{name}" for name in told if name not in studies.MAY_CHANGE] + ["--set"] * bool(overrides)
    if refused:
        raise UserError(
            f"A study goes on as it was begun: --resume takes no {', '.join(refused)}, "
            f"only {', '.join(f'--{name}' for name in studies.MAY_CHANGE)}. Begin a new study instead."
        )
    study = studies.find(reference)
    if study.folder.parent != home.studies():
        raise UserError(
            f"Only a study in the home {home.studies()} can go on. Got {study.folder}. "
            f"Set HISTOFLOW_HOME to the home that holds it."
        )
    before = study.tuning()
    return Tuning(before.experiment, parse_search({**before.search.to_data(), **told})), study.id


def _run(tuning: Tuning, study: str, environment: Environment, show_result: Callable[[Run], None]) -> None:
    display.out.print(f"Study [bold]{study}[/]", highlight=False)
    with (
        interruptible(f"To go on: histoflow tune --resume {study}"),
        environment(),
        _reachable_server(tuning),
    ):
        from histoflow_flows.tune import tune_flow

        folder = tune_flow(tuning.experiment, tuning.search, study)
    _show(folder, tuning, show_result)


@contextmanager
def _reachable_server(tuning: Tuning) -> Iterator[None]:
    """Trials in other processes must be told where this process's own server is, or they start more."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if tuning.search.runner == "threads" or PREFECT_API_URL.value():
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer

    with temporary_settings({PREFECT_API_URL: SubprocessASGIServer().api_url}):
        yield


def _show(folder: Path, tuning: Tuning, show_result: Callable[[Run], None]) -> None:
    from histoflow.tuning.results import results_of
    from histoflow.tuning.study import Study

    results = results_of(Study(folder))
    best = next(trial for trial in results.trials if trial.number == results.best)
    figures = ", ".join(
        f"{name} {display.figure(value)}" for name, value in zip(results.objectives, best.values, strict=True)
    )
    display.out.print(
        f"Best of {len(results.trials)} trials: trial {best.number}, {figures}", highlight=False
    )
    for path in (folder / "best.yaml", folder / "tuning.html"):
        display.out.print(f"{path}", soft_wrap=True, markup=False, highlight=False)
    if tuning.search.retrain:
        show_result(Run(home.runs() / f"{results.study}-trial-{best.number:04d}"))
