"""How the report says numbers, times and choices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

NONE = "–"


def figure(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


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
