"""The command line. Imports torch and prefect only where a command needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from histoflow import __version__, crossvalidation, folders, home, recipes, registry, runs
from histoflow.components import KINDS
from histoflow.engine.memory import keep_big_blocks
from histoflow.errors import HistoflowError, UserError
from histoflow.experiment import Experiment, json_schema, load
from histoflow.runs import Run
from histoflow.stages import experiment_of
from histoflow.tuning.settings import is_tuning, load_tuning
from histoflow_flows import (
    cli_audit,
    cli_compare,
    cli_data,
    cli_drift,
    cli_export,
    cli_find,
    cli_models,
    cli_predict,
    cli_reap,
    cli_retrain,
    cli_service,
    cli_tune,
    display,
)
from histoflow_flows.interrupts import Interrupted, interruptible

app = typer.Typer(
    name="histoflow",
    help="Train and evaluate histopathology image classifiers, built from plugins, run by Prefect.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
plugins_app = typer.Typer(help="The components of every installed plugin.", invoke_without_command=True)
app.add_typer(plugins_app, name="plugins")
cli_service.register(app)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one setting, such as training.epochs=3. Repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print data for other programs instead of a table.")]

_debug = False


def main() -> None:
    """Run the command line: errors as one message, 2 for the user's mistakes, 1 for others."""
    keep_big_blocks()
    try:
        sys.exit(app(standalone_mode=True))
    except HistoflowError as error:
        if _debug:
            raise
        display.error(str(error))
        sys.exit(error.exit_code)
    except Interrupted as error:
        display.error(str(error))
        sys.exit(130)
    except KeyboardInterrupt:
        display.error("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if _debug:
            raise
        display.error(f"{type(error).__name__}: {error}. Run 'histoflow --debug …' for the traceback.")
        sys.exit(1)


def _show_version(wanted: bool) -> None:
    if wanted:
        display.out.print(f"histoflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks and Prefect's own log.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    global _debug  # main decides by it what an error looks like
    _debug = debug


# ── Running ─────────────────────────────────────────────────────────────────────────────────────


@app.command()
def train(
    source: Annotated[
        str | None, typer.Argument(metavar="[RECIPE|FILE]", help="A shipped recipe, or an experiment's YAML.")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run: its id, part of it, or 'latest'.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Measure where the time of the first epoch goes.")
    ] = False,
) -> None:
    """Fetch, preprocess, train, evaluate and report, as one flow."""
    if (source is None) == (resume is None):
        raise UserError(
            f"Name one experiment (a YAML file or {', '.join(recipes.names())}), or --resume RUN."
        )
    if resume is not None:
        if overrides:
            raise UserError(
                "A run is resumed as it was begun: --resume takes no --set. Start a new run instead."
            )
        _train(*_begun(resume), profile)
    else:
        experiment = load(str(source), overrides or ())
        _train(experiment, runs.new_id(experiment.name), profile)


def _begun(reference: str) -> tuple[Experiment, str]:
    """The experiment and the id of the run, or of the cross-validation, that is to go on."""
    folds = crossvalidation.find(reference)
    folder = folds.folder if folds else runs.find(home.runs(), reference).folder
    place = home.cross_validations() if folds else home.runs()
    folders.refuse_elsewhere(folder, place)
    return folds.experiment() if folds else experiment_of(Run(folder)), folder.name


def _train(experiment: Experiment, run_id: str, profile: bool) -> None:
    in_folds = crossvalidation.is_wanted(experiment)
    display.out.print(f"{'Cross-validation' if in_folds else 'Run'} [bold]{run_id}[/]", highlight=False)
    with interruptible(f"To go on: histoflow train --resume {run_id}"), _flow_environment():
        from histoflow_flows.train import train_flow

        folder = train_flow(experiment, run_id, profile)
    if in_folds:
        display.show_folds(folder)
        return
    _show_result(Run(folder))
    if profile:
        _show_profile(folder / "profile")


@app.command()
def evaluate(
    run: Annotated[str, typer.Argument(help="The run's id, part of it, its folder, or 'latest'.")],
    reason: Annotated[str, typer.Option(help="Why the sealed test split is opened; kept with the run.")] = (
        "histoflow evaluate"
    ),
    device: Annotated[
        str | None, typer.Option(help="Evaluate on this device, not on the experiment's.")
    ] = None,
) -> None:
    """Open the sealed test split for a run's best model, and write figures and report anew."""
    found = runs.find(home.runs(), run)
    with interruptible("Evaluate again when you like."), _flow_environment():
        from histoflow_flows.evaluate import evaluate_flow

        evaluate_flow(str(found.folder), reason, device)
    _show_result(found)


@contextmanager
def _flow_environment() -> Iterator[None]:
    """Prefect's settings, and progress bars, for what runs inside."""
    from histoflow import progress
    from histoflow_flows import prefect_setup

    prefect_setup.prepare(_debug)
    with display.out.status("Starting Prefect…"):
        prefect_setup.start_in_process_server()
    with display.showing() as listener, progress.listening(listener):
        yield


def _show_result(run: Run) -> None:
    metrics = run.metrics()
    assert metrics is not None
    opened = sum(not opening.get("of") for opening in run.openings())
    times = "once" if opened == 1 else f"{opened} times"
    title = f"Test figures of {run.id}: {metrics['images']} images, epoch {metrics['epoch']}, opened {times}"
    display.out.print(display.scores(metrics, title))
    report = run.folder / "report.html"
    if report.is_file():
        display.out.print(f"Report: {report}", soft_wrap=True, markup=False, highlight=False)


def _show_profile(folder: Path) -> None:
    summary = folder / "summary.txt"
    if summary.is_file():  # a run that was trained already has nothing to measure
        display.out.print(f"\n{summary.read_text(encoding='utf-8')}", markup=False, highlight=False)
        display.out.print(f"Trace: {folder / 'trace.json'}", soft_wrap=True, markup=False, highlight=False)


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────


@app.command("runs")
def list_runs(as_json: AsJson = False) -> None:
    """All runs with their key figures."""
    rows, folds = [_summary(run) for run in runs.listing(home.runs())], crossvalidation.listing()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows and not folds:
        display.out.print("No runs yet. Begin with: histoflow train demo")
    else:
        columns = ("id", "state", "trained", "best epoch", "test")
        display.out.print(display.table("Runs", columns, [_cells(row) for row in rows]))
        display.list_folds(folds)


def _summary(run: Run) -> dict[str, Any]:
    try:
        record, metrics, epochs = run.read(), run.metrics(), len(run.history())
    except HistoflowError as error:
        return {"id": run.id, "state": "unreadable", "reason": str(error)}
    interrupted = record.state in ("created", "training") and not run.is_busy()
    return {
        "id": run.id,
        "state": "interrupted" if interrupted else record.state,
        "dataset": record.experiment["dataset"]["name"],
        "architecture": record.experiment["architecture"]["name"],
        "epochs": epochs,
        "best": record.best,
        "test": {name: score["value"] for name, score in metrics["scores"].items()} if metrics else None,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """The first figures of a run, one a line; --json has them all."""
    if "reason" in row:
        return row["id"], row["state"], row["reason"], "", ""
    test = list((row["test"] or {}).items())[:3]
    return (
        row["id"],
        row["state"],
        f"{row['architecture']} on {row['dataset']}",
        _best_epoch(row),
        "\n".join(f"{name} {display.figure(value)}" for name, value in test),
    )


def _best_epoch(row: dict[str, Any]) -> str:
    best = row["best"]
    if not best:
        return ""
    return f"{best['epoch']} of {row['epochs']}\n{best['monitor']} {display.figure(best['value'])}"


@plugins_app.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """Every component: kind, name, summary, who provides it, and whether it can be used."""
    if context.invoked_subcommand is not None:
        return
    entries = _plugin_entries(registry.installed())
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    columns = ("kind", "name", "summary", "package", "version", "status")
    display.out.print(
        display.table("Components", columns, [[entry[c] for c in columns] for entry in entries])
    )


def _plugin_entries(installed: registry.Registry) -> list[dict[str, str]]:
    order = [kind.kind for kind in KINDS]
    components = [
        {
            "kind": kind,
            "name": name,
            "summary": entry.component.summary,
            **asdict(entry.provider),
            "status": f"conflict with {', '.join(map(str, entry.rivals))}" if entry.rivals else "ok",
        }
        for (kind, name), entry in sorted(
            installed.components.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]
    broken = [
        {
            "kind": "plugin",
            "name": failure.provider.plugin,
            "summary": failure.reason,
            **asdict(failure.provider),
            "status": "broken",
        }
        for failure in installed.failures
    ]
    return components + broken


@plugins_app.command()
def show(
    kind: Annotated[str, typer.Argument(help="What kind of component, such as architecture.")],
    name: Annotated[str, typer.Argument(help="Its name, as in the list of 'histoflow plugins'.")],
    as_json: AsJson = False,
) -> None:
    """The parameters of one component: type, default, bounds."""
    kinds = {known.kind: known for known in KINDS} | {known.plural: known for known in KINDS}
    if kind not in kinds:
        raise UserError(f"The kind must be one of {', '.join(k.kind for k in KINDS)}. Got '{kind}'.")
    installed = registry.installed()
    component = installed.get(kinds[kind], name)
    rows = display.parameters(component.params)
    provider = installed.provider(kinds[kind], name)
    if as_json:
        head = {"kind": component.kind, "name": name, "summary": component.summary, "provider": str(provider)}
        typer.echo(json.dumps({**head, "parameters": rows}, indent=2))
        return
    columns = ("name", "type", "default", "bounds", "description")
    title = f"{component.kind} {name}: {component.summary} — {provider}"
    cells = [[_as_text(row[column]) for column in columns] for row in rows]
    display.out.print(display.table(title, columns, cells))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@app.command()
def check(
    source: Annotated[str, typer.Argument(metavar="RECIPE|FILE", help="What to check.")],
    overrides: Overrides = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what each setting comes to on this machine, and why.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Tell it as data for other programs.")] = False,
) -> None:
    """Validate an experiment or a tuning: exit 0, or 2 with every mistake in it."""
    check_it = _check_tuning if is_tuning(recipes.read(source)) else _check_experiment
    experiment, verdict = check_it(source, overrides or ())
    if not as_json:
        display.out.print(f"{source} is valid: {verdict}.", markup=False)
    if explain or as_json:
        cli_find.show_explanation(experiment, as_json)


def _check_experiment(source: str, overrides: Sequence[str]) -> tuple[Experiment, str]:
    experiment = load(source, overrides)
    return experiment, (
        f"{experiment.architecture.name} on {experiment.dataset.name}, "
        f"loss {experiment.loss.name}, {experiment.training.epochs} epochs"
    )


def _check_tuning(source: str, overrides: Sequence[str]) -> tuple[Experiment, str]:
    """With the experiment that its trials begin from."""
    from histoflow.tuning.checking import objectives_of, space_of

    tuning = load_tuning(source, overrides)
    space = space_of(tuning, source=source)
    names = ", ".join(dimension.name for dimension in space.dimensions)
    best = ", ".join(objectives_of(tuning))
    return tuning.experiment, f"it searches {names} by {tuning.search.sampler} for the best {best}"


@app.command("recipes")
def list_recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe's YAML.")] = None,
) -> None:
    """The shipped experiments, or the YAML of one, to copy and change."""
    if name is not None and name not in recipes.names():
        raise UserError(f"The recipe must be one of {', '.join(recipes.names())}. Got '{name}'.")
    typer.echo(recipes.text(name).rstrip() if name else "\n".join(recipes.names()))


@app.command()
def schema() -> None:
    """The JSON schema of an experiment file, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))


@app.command("home")
def show_home() -> None:
    """Where histoflow writes, and how much lies there."""
    from histoflow.files import folder_size, in_units

    root = home.folder()
    places = (
        home.raw(), home.packed(), home.runs(), home.models(), home.studies(), home.cross_validations(),
        home.prefect(),
    )  # fmt: skip
    rows = [(str(path.relative_to(root)), in_units(folder_size(path))) for path in places]
    typer.echo(str(root))
    display.out.print(display.table("", ("folder", "size"), rows))


cli_data.register(app)
cli_audit.register(app)
cli_compare.register(app)
cli_models.register(app)
cli_retrain.register(app, _flow_environment)
cli_drift.register(app)
cli_export.register(app)
cli_find.register(app)
cli_predict.register(app)
cli_reap.register(app)
cli_tune.register(app, _flow_environment, _show_result)

if __name__ == "__main__":
    main()
