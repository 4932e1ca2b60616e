"""The first screen: the figures that were asked for first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from histoflow.components import Results
from histoflow.report import wording
from histoflow.report.tables import title

_MOST = 6


@dataclass(frozen=True)
class Figure:
    name: str
    value: str
    interval: str


def headline_content(results: Results) -> dict[str, Any]:
    """The first metrics of the experiment's list; all of them stand in the table below."""
    shown = list(results.metrics.items())[:_MOST]
    return {
        "on": _on(results),
        "figures": [
            Figure(title(name), wording.figure(score.value), wording.interval(score.interval))
            for name, score in shown
        ],
    }


def _on(results: Results) -> str:
    images = wording.count(len(results.labels), "test image", "test images")
    level = results.intervals.get("level")
    has_intervals = any(score.interval for score in results.metrics.values())
    return f"{images}, with {level:.0%} intervals" if level and has_intervals else images
