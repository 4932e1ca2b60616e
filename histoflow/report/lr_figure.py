"""The figure of a test of learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from histoflow.report.style import HUES, MUTED, RULE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOVE = 1.15
"""The loss that left for good would press all the rest flat; so far above the first one is shown."""
_NAMES = {"steepest": "fell fastest", "tenth_of_best": "a tenth of the best"}


def lr_curve(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    marks: Mapping[str, float | None],
) -> Figure:
    """The loss by learning rate, with what is suggested marked in it."""
    with style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(rates, losses, color=RULE, linewidth=1, label="each step")
        axes.plot(rates, smoothed, color=HUES[0], label="smoothed")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        axes.set(xlabel="learning rate", ylabel="loss", ylim=_limits(smoothed))
        for index, (name, rate) in enumerate(marks.items(), start=1):
            if rate is not None:
                _mark(axes, rate, f"{_NAMES[name]}: {rate:.2g}", HUES[index])
        figure.legend(loc="outside lower center", ncols=2, labelcolor=MUTED)
    return figure


def _limits(smoothed: Sequence[float]) -> tuple[float, float]:
    least, top = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
    room = 0.1 * (top - least) or 0.1
    return least - room, max(top * _ABOVE, top + room) if top > 0 else top + room


def _mark(axes: Axes, rate: float, label: str, hue: str) -> None:
    axes.axvline(rate, color=hue, linewidth=1.2, linestyle=(0, (3, 2)), label=label)
