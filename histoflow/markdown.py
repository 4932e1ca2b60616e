"""Text in Markdown that stays text, whoever wrote it: class names, reasons and notes come from strangers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"([\\`*_{}\[\]|~#!])")
_OPENING = re.compile(r"^([-+=])(?!\d)|^(\d{1,9})([.)])(?=\s|$)")
"""What begins a list, a rule or a heading; a number with its sign does not."""


def plain(text: str) -> str:
    """On one line, and shown as it is: no link, picture, emphasis, HTML, list or further cell of a table."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _OPENING.sub(_shut, _MARKS.sub(r"\\\1", text))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Whatever stands in a cell stays in it."""
    lines = [[plain(cell) for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shut(opening: re.Match[str]) -> str:
    sign, number, end = opening.groups()
    return f"\\{sign}" if sign else f"{number}\\{end}"
