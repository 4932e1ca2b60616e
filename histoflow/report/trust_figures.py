"""The reliability diagram: how often the model is right where it is so sure, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from histoflow.evaluation.reliability import BINS
from histoflow.report.style import HUES, MUTED, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bins = Sequence[Mapping[str, Any]]


def reliability_chart(lines: Mapping[str, Bins]) -> Figure:
    """One line for each name, and under them how many images (or answers) its bins hold."""
    lowest = min(one["above"] for bins in lines.values() for one in bins)
    with style():
        figure = Figure(figsize=(4.9, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="_meant")
        for hue, (name, bins) in zip(HUES, lines.items(), strict=False):
            _draw(above, below, bins, color=hue, label=name)
        above.set(ylabel="share that is right", ylim=(-0.01, 1.01), xlim=(lowest - 0.01, 1.01))
        below.set(xlabel="probability", ylabel="count")
        figure.legend(
            *above.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=1.6
        )
    return figure


def _draw(above: Axes, below: Axes, bins: Bins, **look: str) -> None:
    told, right, start, count = ([one[key] for one in bins] for key in ("told", "right", "above", "count"))
    above.plot(told, right, marker="o", **look)  # type: ignore[arg-type]
    below.bar(start, count, 1 / BINS, align="edge", alpha=0.35, linewidth=0, color=look["color"])
