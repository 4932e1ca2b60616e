"""How the report says numbers, times and choices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from histoflow.components import Interval, Score
from histoflow.evaluation.intervals import ROUGH_BELOW

NONE = "–"
NOT_A_STANDARD_ERROR = (
    "The standard deviation tells how much a figure changes from fold to fold. The folds share most of their "
    "training images, and all are tested on the same ones: it is no standard error of the mean, and no "
    "interval around the figure that new patients would give."
)


def figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def interval(ends: Interval | None) -> str:
    """'0.941 to 0.964', or nothing."""
    return f"{figure(ends[0])} to {figure(ends[1])}" if ends else ""


def with_interval(value: float | None, ends: Interval | None) -> str:
    """'0.953 (0.941 to 0.964)'."""
    return f"{figure(value)} ({interval(ends)})" if ends else figure(value)


def how_intervals_came(told: Mapping[str, Any]) -> str:
    """What stands under a table of figures; ``told`` is of metrics.json, and empty where there are none."""
    if not told:
        return ""
    drawn, units = told["by"], told["units"]
    if units < 2:
        return f"There are no intervals, as all test images are of one {drawn}."
    parts = [
        f"{told['level']:.0%} intervals: bootstrap over {units:,} {drawn}s, {told['draws']:,} draws.",
        *(f"Of {_spoken(name)}: {draws:,} draws." for name, draws in told["fewer_draws"].items()),
    ]
    if units < ROUGH_BELOW:
        parts.append(f"Of fewer than {ROUGH_BELOW} {drawn}s, intervals are rough, and often too narrow.")
    if drawn == "image":
        parts.append("The data name no groups: if images share patients or slides, they are too narrow.")
    return " ".join(parts)


def notes(scores: Mapping[str, Score]) -> list[tuple[str, str]]:
    """Metrics, and what a reader must know of their figures; what holds of several is said once."""
    said: dict[str, list[str]] = {}
    for name, score in scores.items():
        for note in filter(None, (score.undefined, score.interval_note)):
            said.setdefault(note, []).append(_spoken(name))
    return [(", ".join(names), note) for note, names in said.items()]


def with_class_names(note: str, classes: Sequence[str]) -> str:
    """Metrics speak of classes by number, which says little where no numbers are shown."""

    def name(number: re.Match[str]) -> str:
        place = int(number[0])
        return classes[place] if place < len(classes) else number[0]

    return _CLASSES.sub(lambda told: re.sub(r"\d+", name, told[0]), note)


def notes_of_tables(tables: Iterable[tuple[str, Mapping[str, Score]]]) -> list[str]:
    """The same of several tables, each with what it is called, if anything; each reason is told once."""
    said: dict[str, list[str]] = {}
    for table, scores in tables:
        for name, score in scores.items():
            for note in filter(None, (score.undefined, *score.interval_note.split("; "))):
                reason = _OF_WHICH.sub("without interval where ", note)
                said.setdefault(reason, []).append(f"{_spoken(name)} ({table})" if table else _spoken(name))
    return [f"{', '.join(figures)}: {reason}" for reason, figures in said.items()]


_CLASSES = re.compile(r"\bclass(?:es)? \d+(?:(?:, | and |, class | and class )\d+)*")
_OF_WHICH = re.compile(r"^no interval for (?:overall|class \d)[^:]*: ")


def _spoken(metric: str) -> str:
    return metric.replace("_", " ")


def count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else NONE


def moment(text: str) -> str:
    """'21 November 2026, 12:00 UTC' for an ISO time; anything else as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time.day} {time:%B %Y, %H:%M} {time.tzname() or ''}".rstrip()


def duration(seconds: float) -> str:
    """The two largest units, as one would say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def choice(chosen: Any) -> tuple[str, str]:
    """The name of a chosen component, and its parameters in one line."""
    if not isinstance(chosen, Mapping):
        return str(chosen or NONE), ""
    params = (f"{key} {plainly(value)}" for key, value in chosen.items() if key != "name")
    return str(chosen.get("name", NONE)), ", ".join(params)


def plainly(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def brief(value: Any) -> str:
    """As short as it can be without misleading: three figures of a number."""
    return f"{value:.3g}" if isinstance(value, float) else plainly(value)


def plus_minus(spread: Mapping[str, Any]) -> str:
    """'0.912 ± 0.013'."""
    if spread["sd"] is None:
        return figure(spread["mean"])
    return f"{figure(spread['mean'])} ± {figure(spread['sd'])}"


def undefined(record: Mapping[str, Any]) -> list[str]:
    """Of figures that some folds lack, and whose mean is of the others alone."""
    where = {"val": "held-out", "test": "test"}
    return [
        f"{where[split]} {name.replace('_', ' ')} is undefined in {record['folds'] - spread['n']} of "
        f"{record['folds']} folds; its mean is of the others."
        for split in where
        for name, spread in record["summary"][split].items()
        if spread["n"] < record["folds"]
    ]
