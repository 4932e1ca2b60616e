"""The command that compares two runs. It needs no Prefect, and leaves the test split sealed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histoflow import files, home, progress, runs
from histoflow.errors import UserError
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.comparing import Comparison, Side, Speed
    from histoflow.evaluation.comparison import Difference

_RUN = "id, part of it, its folder, or 'latest'."
_SIGNS = {"better": "▲", "worse": "▼", "no difference shown": ""}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(compare)


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A", help=f"The run to be measured against: {_RUN}")],
    b: Annotated[str, typer.Argument(metavar="RUN_B", help=f"The run that the verdict is on: {_RUN}")],
    metric: Annotated[
        str | None,
        typer.Option(help="The metric that decides. Otherwise the first that both runs have alike."),
    ] = None,
    level: Annotated[float, typer.Option(help="How sure intervals, and so the verdict, are.")] = 0.95,
    draws: Annotated[int, typer.Option(help="Resamples that intervals are drawn from.")] = 2000,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison as JSON, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """Tell whether run B is better or worse than run A on the same test images, or no difference is shown."""
    if out is not None and out.is_dir():
        raise UserError(f"--out must name a file. Got the folder {out}.")
    run_a, run_b = (runs.find(home.runs(), name) for name in (a, b))
    with (
        interruptible("Compare again when you like."),
        display.showing(display.err if as_json else display.out) as listener,
        progress.listening(listener),
    ):
        from histoflow.comparing import compare_runs

        found = compare_runs(run_a, run_b, metric=metric, level=level, draws=draws)
    if out is not None:
        files.write_json(out, found.to_json())
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)


def _show(found: Comparison) -> None:
    differences = found.differences
    for name, side in (("A", found.a), ("B", found.b)):
        _say(f"{name}  {_told(side)}")
    drawn = f" of {differences.groups:,} groups, drawn whole" if differences.groups else ""
    _say(f"On {differences.images:,} test images{drawn}; intervals at {found.percent}")
    _say("Figures are of the networks' own probabilities; a gate goes by those with the fitted temperature.")
    figures = {**differences.metrics, **differences.calibration}
    _table("Figures", "figure", {name.replace("_", " "): one for name, one in figures.items()})
    _table("Recall of each class", "class", dict(zip(found.classes, differences.recall, strict=True)))
    for line in (_agreement(found), *_speed(found.speed), *_notes(found)):
        _say(line)
    _say(found.words)


def _told(side: Side) -> str:
    return f"{side.run}: {side.architecture}, epoch {side.epoch}"


def _table(title: str, what: str, differences: Mapping[str, Difference]) -> None:
    rows = [
        (
            name,
            _figure(one.a),
            _figure(one.b),
            _figure(one.difference, "+"),
            "–" if one.low is None else f"{_figure(one.low, '+')} to {_figure(one.high, '+')}",
            _SIGNS[one.verdict],
        )
        for name, one in differences.items()
    ]
    display.out.print(display.table(title, (what, "A", "B", "B − A", "interval", ""), rows))


def _figure(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}"


def _agreement(found: Comparison) -> str:
    counts = found.differences.mcnemar
    return (
        f"Right: both on {counts.both_right:,} images, A alone on {counts.only_a:,}, B alone on "
        f"{counts.only_b:,}, neither on {counts.both_wrong:,}; McNemar p = {counts.p:.2g}"
        f"{', which takes images of one group as independent' if found.differences.groups else ''}"
    )


def _speed(speed: Speed | None) -> Iterable[str]:
    if speed is not None:
        yield (
            f"Speed on {speed.device}, measured once: A {speed.a:,.0f} images/s, B {speed.b:,.0f}; "
            f"B takes {speed.a / speed.b:.2f} times as long"
        )


def _notes(found: Comparison) -> Iterable[str]:
    differences = found.differences
    yield from found.notes
    notes: dict[str, list[str]] = {}
    named = {**differences.metrics, **differences.calibration}
    classes = {f"recall of {name}": one for name, one in zip(found.classes, differences.recall, strict=True)}
    for name, one in {**named, **classes}.items():
        if one.note:
            notes.setdefault(one.note, []).append(name)
    yield from (f"{', '.join(names)}: {note}" for note, names in notes.items())


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
