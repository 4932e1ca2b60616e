"""The figures of a tuning's report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from histoflow.report import wording
from histoflow.report.figures import shortened
from histoflow.report.style import HUES, INK, MUTED, PAPER, RULE, style
from histoflow.report.tuning_data import Axis, Tried, TuningResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABSENT = -0.13
"""Where a line crosses the axis of a dimension that was not in play."""


def history_chart(results: TuningResults, objective: int = 0) -> Figure:
    """What each trial came to, and the best so far."""
    done = _with_state(results, "complete")
    with style():
        figure = Figure(figsize=(9.9, 3.7), layout="constrained")
        axes = figure.subplots()
        _dots(axes, done, objective, label="complete", color=HUES[0], marker="o", markersize=5.5)
        _dots(
            axes, _with_state(results, "pruned"), objective,
            label="pruned: its last figure", markerfacecolor=PAPER, color=MUTED, marker="o", markersize=4.5,
        )  # fmt: skip
        _best_so_far(axes, done, results.higher_is_better[objective], objective)
        _failures(axes, _with_state(results, "failed"))
        _leave_out_the_far(axes, done, results.higher_is_better[objective], objective)
        axes.set(xlabel="trial", ylabel=_said(results.objectives[objective]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend(figure, axes)
    return figure


def front_chart(results: TuningResults) -> Figure:
    """The first two objectives against each other; what no trial beats in both is marked."""
    done = _with_state(results, "complete")
    front = sorted((trial for trial in done if trial.number in results.front), key=lambda trial: trial.values)
    with style():
        figure = Figure(figsize=(5.4, 4.4), layout="constrained")
        axes = figure.subplots()
        others = [trial for trial in done if trial.number not in results.front]
        _scatter(axes, others, "beaten by another", color=MUTED, markerfacecolor=PAPER)
        _scatter(axes, front, "not beaten", color=HUES[1])
        for trial in front:
            axes.annotate(
                str(trial.number),
                (trial.values[0], trial.values[1]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=8.5,
            )
        axes.set(xlabel=_said(results.objectives[0]), ylabel=_said(results.objectives[1]))
        axes.set_xlim(*_limits(done, results.higher_is_better[0], 0))
        axes.set_ylim(*_limits(done, results.higher_is_better[1], 1))
        _legend(figure, axes)
    return figure


def importance_chart(importances: Mapping[str, float]) -> Figure:
    """One bar for each dimension, the most important first."""
    names = list(importances)
    with style():
        figure = Figure(figsize=(9.9, 0.9 + 0.34 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.barh([shortened(name, 44) for name in names], list(importances.values()), 0.62, color=HUES[0])
        for place, share in enumerate(importances.values()):
            axes.text(share + 0.008, place, f"{share:.0%}", va="center", color=MUTED, fontsize=8.5)
        axes.invert_yaxis()
        axes.set(xlim=(0, max(importances.values()) * 1.12), xticks=[])
        axes.tick_params(length=0, labelcolor=INK)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure


def parallel_chart(results: TuningResults) -> Figure:
    """One line for each trial across all dimensions; the better, the stronger; the best stands out."""
    done = _with_state(results, "complete")
    columns = [*results.axes, _objective_axis(done, results)]
    ranks = _ranks(done, results.higher_is_better[0])
    with style():
        figure = Figure(figsize=(max(9.9, 1.2 * len(columns)), 4.6), layout="constrained")
        axes = figure.subplots()
        for place, axis in enumerate(columns):
            _draw_axis(axes, place, axis)
        for trial in sorted(done, key=lambda trial: ranks[trial.number]):
            heights = [_height(axis, _at(trial, axis, results)) for axis in columns]
            axes.plot(range(len(columns)), heights, **_line_look(trial, results, ranks[trial.number]))
        _frame_parallel(axes, columns, any(_misses(trial, results.axes) for trial in done))
    return figure


def _with_state(results: TuningResults, state: str) -> list[Tried]:
    return [trial for trial in results.trials if trial.state == state and (trial.values or state == "failed")]


def _said(objective: str) -> str:
    return objective.removeprefix("val_").replace("_", " ") + " on the validation split"


def _dots(axes: Axes, trials: Sequence[Tried], objective: int, **look: Any) -> None:
    if trials:
        numbers = [trial.number for trial in trials]
        axes.plot(numbers, [trial.values[objective] for trial in trials], linestyle="none", **look)


def _scatter(axes: Axes, trials: Sequence[Tried], label: str, **look: Any) -> None:
    if trials:
        xs, ys = zip(*(trial.values[:2] for trial in trials), strict=True)
        axes.plot(xs, ys, linestyle="none", marker="o", markersize=5.5, label=label, **look)


def _best_so_far(axes: Axes, done: Sequence[Tried], rising: bool, objective: int) -> None:
    if not done:
        return
    best, steps = done[0].values[objective], []
    for trial in done:
        best = max(best, trial.values[objective]) if rising else min(best, trial.values[objective])
        steps.append(best)
    numbers = [trial.number for trial in done]
    axes.step(numbers, steps, where="post", color=HUES[1], linewidth=1.5, label="best so far")


def _leave_out_the_far(axes: Axes, done: Sequence[Tried], rising: bool, objective: int) -> None:
    """Let a few bad trials not flatten the rest: the axis ends where they begin, and arrows point to them."""
    worst = _worst_worth_showing([trial.values[objective] for trial in done], rising)
    beyond = [
        (x, y)
        for line in axes.lines
        for x, y in zip(np.ravel(line.get_xdata()), np.ravel(line.get_ydata()), strict=True)
        if (y < worst if rising else y > worst)
    ]
    if beyond:
        axes.set_ylim(*_limits(done, rising, objective))
        xs = [x for x, _ in beyond]
        axes.plot(
            xs, [worst] * len(xs), linestyle="none", marker="v" if rising else "^", markersize=5,
            color=MUTED, label="beyond the axis",
        )  # fmt: skip


def _limits(done: Sequence[Tried], rising: bool, objective: int) -> tuple[float, float]:
    values = [trial.values[objective] for trial in done]
    best, worst = (max if rising else min)(values), _worst_worth_showing(values, rising)
    room = 0.06 * (best - worst) or (0.01 if rising else -0.01)
    return min(worst - room, best + room), max(worst - room, best + room)


def _worst_worth_showing(values: Sequence[float], rising: bool) -> float:
    """A few times as far from the best as the middle one."""
    best = max(values) if rising else min(values)
    reach = 5 * abs(float(np.median(values)) - best)
    farthest = min(values) if rising else max(values)
    if not reach or abs(farthest - best) <= reach:
        return farthest
    return best - reach if rising else best + reach


def _failures(axes: Axes, failed: Sequence[Tried]) -> None:
    if failed:
        axes.plot(
            [trial.number for trial in failed], [0.02] * len(failed), transform=axes.get_xaxis_transform(),
            linestyle="none", marker="x", markersize=6, color=HUES[4], label="failed", clip_on=False,
        )  # fmt: skip


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1, handlelength=1.6)


# ── Parallel coordinates ────────────────────────────────────────────────────────────────────────


def _objective_axis(done: Sequence[Tried], results: TuningResults) -> Axis:
    values, rising = [trial.values[0] for trial in done], results.higher_is_better[0]
    best, worst = (max(values) if rising else min(values)), _worst_worth_showing(values, rising)
    low, high = sorted((best, worst))
    return Axis(name=results.objectives[0], low=low, high=high if high > low else low + 1)


def _at(trial: Tried, axis: Axis, results: TuningResults) -> Any:
    return trial.values[0] if axis.name == results.objectives[0] else trial.point.get(axis.name, _at)


def _height(axis: Axis, value: Any) -> float:
    if value is _at:
        return _ABSENT
    if axis.choices is not None:
        return axis.choices.index(value) / max(1, len(axis.choices) - 1) if len(axis.choices) > 1 else 0.5
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return min(1.0, max(0.0, float(value - axis.low) / (axis.high - axis.low)))


def _misses(trial: Tried, axes: Sequence[Axis]) -> bool:
    return any(axis.name not in trial.point for axis in axes)


def _ranks(done: Sequence[Tried], rising: bool) -> dict[int, float]:
    """0 for the worst, 1 for the best."""
    ordered = sorted(done, key=lambda trial: trial.values[0], reverse=not rising)
    return {trial.number: place / max(1, len(ordered) - 1) for place, trial in enumerate(ordered)}


def _line_look(trial: Tried, results: TuningResults, rank: float) -> dict[str, Any]:
    if trial.number == results.best:
        return {"color": HUES[1], "linewidth": 2.6, "zorder": 5}
    return {"color": HUES[0], "alpha": 0.12 + 0.6 * rank**2, "linewidth": 1.3}


def _draw_axis(axes: Axes, place: int, axis: Axis) -> None:
    axes.plot([place, place], [0, 1], color=RULE, linewidth=1.2, zorder=1)
    ticks = axis.choices if axis.choices is not None else _ticks(axis)
    for value in ticks:
        height = _height(axis, value)
        axes.plot([place], [height], marker="_", markersize=6, color=MUTED, zorder=2)
        text = shortened(wording.brief(value), 18)
        axes.text(
            place + 0.05, height, text, va="center", fontsize=8, color=MUTED, zorder=6,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _ticks(axis: Axis) -> list[float]:
    middle = math.sqrt(axis.low * axis.high) if axis.log else (axis.low + axis.high) / 2
    return [axis.low, middle, axis.high]


def _frame_parallel(axes: Axes, columns: Sequence[Axis], some_are_absent: bool) -> None:
    axes.set(xticks=range(len(columns)), yticks=[], xlim=(-0.1, len(columns) - 0.55))
    names = [shortened(axis.name.replace("val_", "").replace("_", " "), 24) for axis in columns]
    axes.set_xticklabels([name.replace(".", ".\n", 1) for name in names], color=INK)
    axes.set_ylim(_ABSENT - 0.08 if some_are_absent else -0.06, 1.06)
    if some_are_absent:
        axes.axhline(_ABSENT, color=RULE, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        axes.text(-0.06, _ABSENT, "not in play", va="bottom", fontsize=8, color=MUTED)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
