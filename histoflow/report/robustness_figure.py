"""The figure of how a metric falls as images get worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from histoflow.report.style import HUES, MUTED, style

MARKS = ("o", "s", "^", "D", "v")
"""Beside the colours, for who cannot tell those apart."""


def degradation_chart(clean: float | None, conditions: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    """A line for each kind, from the clean images over its grades; a figure that is undefined is a gap."""
    kinds = list(dict.fromkeys(one["kind"] for one in conditions))
    grades = list(dict.fromkeys(one["grade"] for one in conditions))
    with style():
        figure = Figure(figsize=(4.9, 3.7), layout="constrained")
        axes = figure.subplots()
        if clean is not None:
            axes.axhline(clean, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="_clean")
        for index, kind in enumerate(kinds):
            found = {one["grade"]: one["scores"][metric] for one in conditions if one["kind"] == kind}
            heights = [clean, *(found.get(grade) for grade in grades)]
            axes.plot(
                range(len(heights)),
                [float("nan") if height is None else height for height in heights],
                label=kind,
                color=HUES[index % len(HUES)],
                marker=MARKS[index % len(MARKS)],
            )
        axes.set_xticks(range(1 + len(grades)), ["clean", *grades])
        axes.set(ylabel=metric.replace("_", " "))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=1.6)
    return figure
