"""The figure of many points in a plane, of which each belongs to a named part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from histoflow.report.figures import shortened
from histoflow.report.style import HUES, style

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARKS = ("o", "^", "s", "D")
"""From the eleventh part on, the hues come again with another mark."""
_DOTS_PER_INCH = 160


def scatter(
    points: NDArray[np.float32], parts: Mapping[str, NDArray[np.bool_]], axis_names: tuple[str, str]
) -> Figure:
    """A point for each image, drawn in pixels: thousands of shapes would slow the page down."""
    with style():
        rows = -(-len(parts) // _columns(parts))
        figure = Figure(figsize=(4.9, 4.2 + 0.2 * rows), layout="constrained", dpi=_DOTS_PER_INCH)
        axes = figure.subplots()
        for chosen, look in _mixed(parts):
            across, up = points[chosen].T
            axes.scatter(across, up, 9, alpha=0.7, linewidths=0, rasterized=True, **look)  # type: ignore[arg-type]
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1], xticklabels=[], yticklabels=[])
        axes.tick_params(length=0)
        figure.legend(handles=_handles(parts), loc="outside lower center", ncols=_columns(parts))
    return figure


def _mixed(parts: Mapping[str, NDArray[np.bool_]]) -> list[tuple[NDArray[np.int64], dict[str, str]]]:
    """The parts in slices, one after the other in turn, so that none hides the rest."""
    slices = 8
    places = [np.array_split(np.flatnonzero(chosen), slices) for chosen in parts.values()]
    return [
        (places[part][turn], _look(part))
        for turn in range(slices)
        for part in range(len(places))
        if len(places[part][turn])
    ]


def _look(part: int) -> dict[str, str]:
    return {"color": HUES[part % len(HUES)], "marker": _MARKS[part // len(HUES) % len(_MARKS)]}


def _handles(parts: Mapping[str, NDArray[np.bool_]]) -> list[Line2D]:
    return [
        Line2D([], [], linestyle="", markersize=5, label=shortened(name, 30), **_look(part))  # type: ignore[arg-type]
        for part, name in enumerate(parts)
    ]


def _columns(parts: Mapping[str, NDArray[np.bool_]]) -> int:
    return 3 if len(parts) == 3 else 2
