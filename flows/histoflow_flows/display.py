"""What the command line shows: progress bars, tables, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from histoflow.components import Params, Score
from histoflow.crossvalidation import CrossValidation, FoldsRecord
from histoflow.errors import HistoflowError
from histoflow.fold_results import summarise
from histoflow.progress import Advance, Figures, Listener, LogListener, rate
from histoflow_flows.display_trust import trust

out = Console()
err = Console(stderr=True)

_RECENT = 10.0
"""Seconds over which a speed is told."""
_FOLDS_IN_A_LINE = 5
"""Of more folds the terminal shows the mean alone; the report has each."""
_INDENT, _BETWEEN = "  ", " · "


@contextmanager
def showing(console: Console = out) -> Iterator[Listener]:
    """Whoever shows progress here: bars where they can be drawn, else plain lines."""
    if console.is_interactive:
        with RichListener(console).showing() as bars:
            yield bars
    else:
        yield PlainListener(console)


class PlainListener(LogListener):
    """Prints lines, few of them, for pipes, for the logs of others, for terminals that draw nothing."""

    def __init__(self, console: Console = out) -> None:
        super().__init__(worth_telling=30.0)
        self._console = console

    def say(self, message: str) -> None:
        self._console.print(Text(message), soft_wrap=True)


class _Amount(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        total = f"/{task.total:,.0f}" if task.total else ""
        return Text(f"{task.completed:,.0f}{total}", style="progress.download")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(rate(speed, task.fields["unit"]) if speed else "", style="dim")


class _TimeLeft(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        return super().render(task).append(" left", style="dim") if task.time_remaining else Text()


def _unbroken() -> Column:
    return Column(no_wrap=True)


class _Bars(Progress):
    """Bars, and under them the figures of the work."""

    figures: Figures | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.figures:
            yield _Lines(self.figures)


class _Lines:
    """Figures in as few lines as hold them, none broken in two."""

    def __init__(self, figures: Figures) -> None:
        self._figures = [
            Text.assemble((f"{name} ", "dim"), value, no_wrap=True) for name, value in figures.items()
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = Text(_INDENT)
        for figure in self._figures:
            if len(line) > len(_INDENT) and len(line) + len(_BETWEEN) + len(figure) > options.max_width:
                yield line
                line = Text(_INDENT)
            line.append_text(Text(_BETWEEN, style="dim") if len(line) > len(_INDENT) else Text())
            line.append_text(figure)
        yield line


class RichListener:
    """Draws a bar for each piece of work under way with its figures, and prints lines above the bars."""

    def __init__(self, console: Console = out) -> None:
        self._console = console
        self._bars = _Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            _Amount(table_column=_unbroken()),
            _Rate(table_column=_unbroken()),
            _TimeLeft(table_column=_unbroken()),
            console=console,
            transient=True,
            expand=True,
            speed_estimate_period=_RECENT,
        )

    @contextmanager
    def showing(self) -> Iterator[RichListener]:
        with self._bars:
            yield self

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:
        bar = self._bars.add_task(escape(title), total=total, unit=unit)
        try:
            yield lambda amount=1: self._bars.advance(bar, amount)
        finally:
            self._bars.remove_task(bar)

    def tell(self, figures: Figures) -> None:
        self._bars.figures = figures

    def say(self, message: str) -> None:
        self._console.print(Text(message))


def error(message: str) -> None:
    err.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def scores(metrics: Mapping[str, Any], title: str) -> Group:
    """The content of metrics.json: the overall figures with their intervals, then those of each class."""
    from histoflow.evaluation.scores import from_json
    from histoflow.report.wording import how_intervals_came, notes, with_class_names

    found = from_json(metrics)
    told = how_intervals_came(metrics.get("intervals", {}))
    said = [f"{names}: {with_class_names(note, metrics['classes'])}" for names, note in notes(found)]
    tables = [_overall(found, title), _by_class(found, metrics["classes"])]
    shown = [table for table in tables if len(table.columns) > 1]
    return Group(*shown, *trust(metrics), *(Text(line) for line in (told, *said) if line))


def _overall(found: Mapping[str, Score], title: str) -> Table:
    from histoflow.report.wording import with_interval

    drawn = Table(title=title, title_justify="left", title_style="bold")
    drawn.add_column("metric", overflow="fold")
    drawn.add_column("overall", no_wrap=True)
    for name, score in found.items():
        drawn.add_row(name.replace("_", " "), with_interval(score.value, score.interval))
    return drawn


def _by_class(found: Mapping[str, Score], classes: Sequence[str]) -> Table:
    """Of as many metrics as the terminal is wide."""
    told = {name: score.per_class for name, score in found.items() if score.per_class}
    shown = _fitting(list(told), out.width - max(map(len, classes), default=0) - 4)
    left_out = [name.replace("_", " ") for name in told if name not in shown]
    drawn = Table(caption=f"In the report as well: {', '.join(left_out)}" if left_out else None)
    drawn.add_column("class", no_wrap=True)
    for name in shown:
        drawn.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for index, class_name in enumerate(classes):
        drawn.add_row(escape(class_name), *(figure(told[name][index]) for name in shown))
    return drawn


def _fitting(metrics: Sequence[str], room: int) -> list[str]:
    """The first ones, one at least; a column is as wide as the longest word of its name, or a figure."""
    shown: list[str] = []
    for name in metrics:
        room -= max(len("0.000"), *map(len, name.split("_"))) + 3
        if room < 0 and shown:
            break
        shown.append(name)
    return shown


def show_folds(folder: Path) -> None:
    """The figures of each fold of a cross-validation, their mean and standard deviation."""
    from histoflow.report.wording import NOT_A_STANDARD_ERROR, undefined

    record = CrossValidation(folder).read()
    assert record.summary is not None
    for split, title in (("val", "Held-out folds"), ("test", "Test split, opened once for each fold")):
        out.print(_folds_table(record, split, title))
    for note in (NOT_A_STANDARD_ERROR, *undefined(record.model_dump())):
        out.print(note, markup=False, highlight=False)
    out.print(f"Report: {folder / 'report.html'}", soft_wrap=True, markup=False, highlight=False)


def _folds_table(record: FoldsRecord, split: str, title: str) -> Table:
    from histoflow.report.wording import plus_minus

    found = record.model_dump()
    shown = found["results"] if len(found["results"]) <= _FOLDS_IN_A_LINE else []
    drawn = Table(title=title, title_justify="left", title_style="bold")
    drawn.add_column("metric")
    drawn.add_column("mean ± sd", justify="right", style="bold", no_wrap=True)
    for result in shown:
        drawn.add_column(f"fold {result['fold']}", justify="right", no_wrap=True)
    for name, spread in found["summary"][split].items():
        each = (figure(result[split].get(name)) for result in shown)
        drawn.add_row(name.replace("_", " "), plus_minus(spread), *each)
    return drawn


def list_folds(everyone: Sequence[CrossValidation]) -> None:
    """Cross-validations with their key figures, if there are any."""
    rows = [_folds_cells(one) for one in everyone]
    if rows:
        out.print(table("Cross-validations", ("id", "folds", "test"), rows))


def _folds_cells(one: CrossValidation) -> tuple[str, ...]:
    from histoflow.report.wording import plus_minus

    try:
        record = one.read()
    except HistoflowError as error:
        return one.id, "unreadable", str(error)
    summary = summarise(record.results).test
    test = [f"{name} {plus_minus(spread.model_dump())}" for name, spread in list(summary.items())[:3]]
    return one.id, f"{len(record.results)} of {record.folds}", "\n".join(test)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; cells may wrap, and hold no markup."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column in ("id", "name", "state"))
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def parameters(params: type[Params]) -> list[dict[str, Any]]:
    """Name, type, default, bounds and description of each parameter, from its JSON schema."""
    properties = params.model_json_schema().get("properties", {})
    return [
        {
            "name": name,
            "type": _type_of(field),
            "default": field.get("default"),
            "bounds": _bounds_of(field),
            "description": field.get("description", ""),
        }
        for name, field in properties.items()
    ]


def _type_of(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type_of(option) for option in field["anyOf"])
    if "enum" in field or "const" in field:
        return "one of " + ", ".join(str(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array" and "items" in field:
        return f"list of {_type_of(field['items'])}"
    return str(field.get("type", "any"))


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _bounds_of(field: Mapping[str, Any]) -> str:
    options = [field, *field.get("anyOf", ())]
    return ", ".join(
        f"{sign} {option[key]:g}" for option in options for key, sign in _BOUNDS.items() if key in option
    )
