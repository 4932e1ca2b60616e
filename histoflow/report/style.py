"""The look of the report's figures, and how a figure becomes an image.

An SVG carries its own colours for light and dark screens and its own background, so it is legible
wherever it is embedded: in the page, in a Prefect artifact, in a slide.
"""

from __future__ import annotations

import threading
import warnings
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER = "#1c2530", "#5b6673", "#d5dae0", "#ffffff"
DARK = {INK: "#e4e8ed", MUTED: "#a3adb8", RULE: "#3a434e", PAPER: "#14181d"}
"""What each colour of the light scheme becomes on a dark screen."""
HUES = (
    "#2f74c0", "#cf5f1d", "#23875b", "#a04fc4", "#c8374f",
    "#0f8696", "#97683d", "#c74a94", "#7c7f1a", "#6d7a88",
)  # fmt: skip
"""Told apart by most colour-blind readers, and legible on white and on black."""
FULL = f"{HUES[0]}c7"
"""A cell that holds everything: not quite opaque, so that INK is legible on it in light and dark."""
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
"""From the eleventh line on, the hues come again, dashed."""

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "histoflow",
}

_one_at_a_time = threading.Lock()
"""matplotlib's settings belong to the process, so two threads must not borrow them at once."""


@contextmanager
def style() -> Iterator[None]:
    """The report's style over matplotlib's defaults, whatever the user's own settings are."""
    with _one_at_a_time, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def to_svg(figure: Figure) -> str:
    svg = _saved(
        figure, "svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    ).decode()
    start = svg.index("<svg")
    head_end = svg.index(">", start) + 1
    return svg[start:head_end] + _screen_style() + svg[head_end:]


def to_png(figure: Figure, dots_per_inch: int = 144) -> bytes:
    """For places that show no SVG; always in light colours."""
    return _saved(figure, "png", dpi=dots_per_inch)


def data_uri(figure: Figure, form: Literal["svg", "png"] = "svg") -> str:
    """The whole figure as an address, for the src of an image."""
    if form == "png":
        return f"data:image/png;base64,{b64encode(to_png(figure)).decode()}"
    return f"data:image/svg+xml;base64,{b64encode(to_svg(figure).encode()).decode()}"


def _saved(figure: Figure, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    with style(), warnings.catch_warnings():
        # matplotlib measures with a font that lacks some scripts; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, **options)
    return buffer.getvalue()


def _screen_style() -> str:
    swaps = "".join(
        f'[style*="{property_}: {light}"]{{{property_}:{dark} !important}}'
        for light, dark in DARK.items()
        for property_ in ("fill", "stroke")
    )
    font = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,sans-serif !important}"
    return f"<style>{font}@media (prefers-color-scheme: dark){{{swaps}}}</style>"
