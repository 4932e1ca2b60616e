"""What the command line shows: progress bars, tables, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from histoflow.components import Params
from histoflow.progress import Advance

out = Console()
err = Console(stderr=True)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "", style="dim")


class RichListener:
    """Draws a bar for each piece of work under way, and prints lines above the bars."""

    def __init__(self, console: Console = out) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
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

    def say(self, message: str) -> None:
        self._console.print(Text(message))


def error(message: str) -> None:
    err.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def scores(metrics: Mapping[str, Any], title: str) -> Table:
    """The content of metrics.json: one row per class and one for all, one column per metric."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    drawn.add_column("class", no_wrap=True)
    for name in metrics["scores"]:
        drawn.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for index, class_name in enumerate(metrics["classes"]):
        row = [score["per_class"] and score["per_class"][index] for score in metrics["scores"].values()]
        drawn.add_row(escape(class_name), *(figure(value) for value in row))
    drawn.add_section()
    drawn.add_row("overall", *(figure(score["value"]) for score in metrics["scores"].values()), style="bold")
    return drawn


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; cells may wrap, and hold no markup."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold", no_wrap=column in ("id", "name", "state"))
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn


def size(count: int) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count} bytes"


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
