"""What the command line shows of a model beside its scores: calibration, thresholds, sets, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from histoflow.components import Score

_Row = tuple[str, str]


def trust(metrics: Mapping[str, Any]) -> Iterator[Table]:
    """One short table of the content of metrics.json; none of runs evaluated before there was any of it."""
    rows = [row for rows in (_calibration, _operating, _sets, _groups) for row in rows(metrics)]
    if rows:
        drawn = Table()
        drawn.add_column("beside", overflow="fold")
        drawn.add_column("on the test split", overflow="fold")
        for row in rows:
            drawn.add_row(*map(escape, row))
        yield drawn


def _calibration(metrics: Mapping[str, Any]) -> Iterator[_Row]:
    if told := metrics.get("calibration"):
        before = f"{_said(told['before'], 'ece')} as given"
        if not told["after"]:
            yield "calibration error", before
        else:
            after = f"{_said(told['after'], 'ece')} with temperature {told['temperature']:.3g}"
            yield "calibration error", f"{before}, {after}"


def _operating(metrics: Mapping[str, Any]) -> Iterator[_Row]:
    if told := metrics.get("operating"):
        subject = metrics["classes"][1] if len(told["thresholds"] or ()) < 2 else "all classes"
        figures = [f"{name} {_said(told['scores'], name)}" for name in ("sensitivity", "specificity")]
        limits = ", ".join(f"{one:.3g}" for one in told["thresholds"] or ())
        yield (f"{subject} from {limits} on" if limits else "operating point"), ", ".join(figures)


def _sets(metrics: Mapping[str, Any]) -> Iterator[_Row]:
    if told := metrics.get("sets"):
        figures = [f"{_said(told['scores'], 'coverage')} hold the true class"]
        if "abstained" in told["scores"]:
            figures.append(f"{_said(told['scores'], 'abstained')} abstained")
        yield f"prediction sets at {told['coverage']:g}", ", ".join(figures)


def _groups(metrics: Mapping[str, Any]) -> Iterator[_Row]:
    told = metrics.get("aggregated") or {"by": {}}
    for way, found in told["by"].items():
        main = next(iter(found["scores"]))
        figure = f"{main.replace('_', ' ')} {_said(found['scores'], main)}"
        yield f"{told['groups']:,} groups, by {way.replace('_', ' ')}", figure


def _said(scores: Mapping[str, Any], name: str) -> str:
    from histoflow.evaluation.scores import from_json
    from histoflow.report.wording import with_interval

    found: Score = from_json({"scores": {name: scores[name]}})[name]
    return with_interval(found.value, found.interval)
