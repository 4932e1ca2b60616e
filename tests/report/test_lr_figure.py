"""The figure of a test of learning rates shows where the loss falls."""

from __future__ import annotations

from histoflow.report.lr_figure import lr_curve
from histoflow.report.style import to_png, to_svg

RATES = [10.0**power for power in range(-6, 1)]
LOSSES = [2.0, 2.0, 1.9, 1.4, 1.0, 1.1, 60.0]


def test_both_suggestions_are_marked_with_their_values() -> None:
    svg = to_svg(lr_curve(RATES, LOSSES, LOSSES, {"steepest": 1e-3, "tenth_of_best": 1.2e-3}))
    assert "fell fastest: 0.001" in svg
    assert "a tenth of the best: 0.0012" in svg
    assert "mathdefault" not in svg, "rates stand as plain numbers"


def test_a_loss_that_left_does_not_press_the_rest_flat() -> None:
    (axes,) = lr_curve(RATES, LOSSES, LOSSES, {}).axes
    low, high = axes.get_ylim()
    assert low < 1.0
    assert 2.0 < high < 3.0
    assert axes.get_xscale() == "log"


def test_no_suggestion_and_a_flat_loss_are_drawn_as_well() -> None:
    figure = lr_curve(RATES, [1.0] * 7, [1.0] * 7, {"steepest": None, "tenth_of_best": None})
    assert to_png(figure).startswith(b"\x89PNG")
    assert "fell fastest" not in to_svg(figure)
