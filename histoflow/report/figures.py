"""The report's figures, drawn without pyplot and so without global figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from histoflow.report.style import DASHES, FULL, HUES, INK, MUTED, RULE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from histoflow.evaluation.curves import PrecisionRecallCurve, RocCurve

_MOST_CURVES = 6
_INCHES_PER_SIGN = 0.075
"""Room for one character of a class name."""


def loss_curves(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> Figure:
    """Training and validation loss by epoch."""
    lines = {"train_loss": "training", "val_loss": "validation", "val_shifted_loss": "shifted stains"}
    known = {key: name for key, name in lines.items() if any(key in entry for entry in history)}
    return _curves(history, known, "loss", best_epoch)


def metric_curves(history: Sequence[Mapping[str, Any]], best_epoch: int | None = None) -> Figure:
    """The drawn metrics on the validation split by epoch."""
    lines = {key: key.removeprefix("val_").replace("_", " ") for key in drawn_metrics(history)}
    return _curves(history, lines, "on the validation split", best_epoch)


def drawn_metrics(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first of the experiment: more lines could not be told apart, and losses would press others flat."""
    keys = dict.fromkeys(key for entry in history for key in entry if key.startswith("val_"))
    metrics = [key for key in keys if not key.startswith("val_shifted_") and not key.endswith("loss")]
    return metrics[:_MOST_CURVES]


def confusion_heatmap(matrix: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Shares of each class's images, as colour and percentage, with the counts beneath."""
    rows = [_lines(name) for name in classes]
    columns = [shortened(name, 24) for name in classes]
    row_room = max(len(line) for lines in rows for line in lines) * _INCHES_PER_SIGN
    column_room = max(map(len, columns)) * _INCHES_PER_SIGN * 0.7
    side = 0.54 * len(classes) + 0.6
    with style():
        figure = Figure(figsize=(side + row_room + 0.3, side + column_room + 0.7), layout="constrained")
        axes = figure.subplots()
        _fill_cells(axes, matrix)
        _name_rows(axes, rows)
        _name_columns(axes, columns)
    return figure


def roc_chart(curves: Mapping[str, RocCurve]) -> Figure:
    """One curve per name, with its area in the legend."""
    with style():
        figure = Figure(figsize=(4.9, 4.5 + 0.21 * len(curves)), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=RULE, linewidth=1, label="_chance")
        for index, (name, curve) in enumerate(curves.items()):
            label = f"{curve.area:.3f}  {shortened(name, 44)}"
            axes.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                label=label,
                **_look(index),
                linewidth=1.5,
            )
        axes.set(
            xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
        )
        axes.set_aspect("equal")
        _legend_below(figure, title="area under the curve")
    return figure


def precision_recall_chart(curves: Mapping[str, PrecisionRecallCurve]) -> Figure:
    """One curve per name, with its average precision in the legend."""
    with style():
        figure = Figure(figsize=(4.9, 4.5 + 0.21 * len(curves)), layout="constrained")
        axes = figure.subplots()
        for index, (name, curve) in enumerate(curves.items()):
            # Steps: between two thresholds nothing is found that lies on a line between their points.
            axes.step(
                np.append(0, curve.recall),
                np.append(curve.precision[0], curve.precision),
                where="pre",
                label=f"{curve.area:.3f}  {shortened(name, 44)}",
                **_look(index),
                linewidth=1.5,
            )
            axes.axhline(curve.share, color=RULE, linewidth=1, label="_guessing", zorder=0)
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.set_aspect("equal")
        _legend_below(figure, title="average precision")
    return figure


def shortened(name: str, longest: int) -> str:
    """On one line, without characters that an image file may not hold."""
    name = " ".join("".join(sign if sign.isprintable() else " " for sign in name).split())
    return name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"


def _curves(
    history: Sequence[Mapping[str, Any]], lines: Mapping[str, str], label: str, best_epoch: int | None
) -> Figure:
    epochs = [entry["epoch"] for entry in history]
    with style():
        figure = Figure(figsize=(4.9, 3.5), layout="constrained")
        axes = figure.subplots()
        for index, (key, name) in enumerate(lines.items()):
            values = [_number(entry.get(key)) for entry in history]
            axes.plot(epochs, values, label=name, marker="o" if len(epochs) <= 20 else "", **_look(index))
        _mark_best(axes, best_epoch)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend_below(figure)
    return figure


def _number(value: Any) -> float:
    """A figure that an epoch lacks is a gap in its line."""
    return float("nan") if value is None else float(value)


def _look(index: int) -> dict[str, Any]:
    return {"color": HUES[index % len(HUES)], "linestyle": DASHES[index // len(HUES) % len(DASHES)]}


def _mark_best(axes: Axes, best_epoch: int | None) -> None:
    if best_epoch is not None:
        axes.axvline(best_epoch, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), label="_best")
        axes.annotate(
            "best",
            (best_epoch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=MUTED,
            fontsize=8.5,
        )


def _legend_below(figure: Figure, title: str | None = None) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = 1 if title else min(3, max(1, len(labels)))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        title=title,
        alignment="left",
        handlelength=1.6,
    )


def _fill_cells(axes: Axes, matrix: NDArray[np.int64]) -> None:
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    clear_to_full = LinearSegmentedColormap.from_list("share", [f"{HUES[0]}00", FULL])
    axes.pcolormesh(shares, cmap=clear_to_full, vmin=0, vmax=1, edgecolors=RULE, linewidth=0.6)
    for (row, column), share in np.ndenumerate(shares):
        _write_cell(axes, row, column, float(share), int(matrix[row, column]))


def _write_cell(axes: Axes, row: int, column: int, share: float, count: int) -> None:
    # Zeros are most of the matrix; kept faint, they leave the eye to the mistakes.
    middle = {"ha": "center", "va": "center", "color": INK if count else MUTED}
    if not count:
        axes.text(column + 0.5, row + 0.5, "0", fontsize=7.5, **middle)  # type: ignore[arg-type]
        return
    axes.text(column + 0.5, row + 0.38, _percent(share), fontsize=9.5, **middle)  # type: ignore[arg-type]
    axes.text(column + 0.5, row + 0.72, str(count), fontsize=7.5, **middle)  # type: ignore[arg-type]


def _percent(share: float) -> str:
    """Neither a rare mistake nor a rare miss is rounded away."""
    if share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def _lines(name: str) -> list[str]:
    """Two lines at most: long names would push the matrix off a narrow screen."""
    return wrap(shortened(name, 80), 26, max_lines=2, placeholder="…") or [""]


def _name_rows(axes: Axes, rows: Sequence[Sequence[str]]) -> None:
    # Each line is a text of its own, as an SVG aligns only single lines in the reader's font.
    axes.text(-0.15, -0.25, "actual", ha="right", va="center", color=MUTED)
    for row, lines in enumerate(rows):
        for place, line in enumerate(lines):
            middle = row + 0.5 + 0.3 * (place - (len(lines) - 1) / 2)
            axes.text(-0.15, middle, line, ha="right", va="center")


def _name_columns(axes: Axes, columns: Sequence[str]) -> None:
    axes.set(xticks=np.arange(len(columns)) + 0.5, yticks=[], xlabel="predicted")
    axes.set_xticklabels(columns, rotation=40, ha="right", rotation_mode="anchor", color=INK)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_aspect("equal")
