"""The figure of how far the splits can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from histoflow.data.audit.tables import FAMILIES
from histoflow.report.style import HUES, INK, MUTED, RULE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def shift_chart(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    """A row for each two splits: the AUC with its interval, and those of single families of features."""
    with style():
        figure = Figure(figsize=(4.9, 1.25 + 0.5 * len(comparisons)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for row, figures in enumerate(comparisons):
            _draw(axes, row, figures)
        names = [" and ".join(figures["splits"]) for figures in comparisons]
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(_lowest(comparisons), 1.01), ylim=(len(names) - 0.4, -0.6), xlabel="AUC")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        _name_marks(figure, axes)
    return figure


def _draw(axes: Axes, row: int, figures: Mapping[str, Any]) -> None:
    chance = figures.get("by_chance")
    if chance:
        axes.barh(row, chance[1] - chance[0], left=chance[0], height=0.56, color=RULE, alpha=0.6)
    found = figures["auc"]
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [row, row], color=INK, linewidth=1.8, solid_capstyle="round")
    axes.plot(found["value"], row, "o", color=INK, markersize=6, label="all" if row == 0 else "_all")
    for hue, name in enumerate(FAMILIES):
        area = figures.get("families", {}).get(name)
        if area:
            label = name if row == 0 else f"_{name}"
            axes.plot(area["value"], row + 0.2, "^", color=HUES[hue], markersize=5, label=label)


def _lowest(comparisons: Sequence[Mapping[str, Any]]) -> float:
    """0.4, or less where something would be cut off."""
    found = [figures["auc"] for figures in comparisons]
    lows = [auc["value"] if auc["low"] is None else auc["low"] for auc in found]
    lows += [area["value"] for figures in comparisons for area in figures.get("families", {}).values()]
    lows += [figures["by_chance"][0] for figures in comparisons if figures.get("by_chance")]
    return max(0.0, min(0.4, float(min(lows)) - 0.02))


def _name_marks(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, handletextpad=0.2, columnspacing=1.2)
