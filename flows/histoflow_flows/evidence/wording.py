"""How the cards say numbers and write Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from histoflow.report import wording

figure = wording.figure


def amount(done: int, total: int | None) -> str:
    return f"{done:,} of {total:,}" if total else f"{done:,}"


def rate(per_second: float, unit: str) -> str:
    return f"{per_second:,.0f} {unit}/s" if per_second >= 10 else f"{per_second:.1f} {unit}/s"


def time_left(seconds: float) -> str:
    """In steps that a reader can use: nobody needs the seconds of an hour."""
    rounded = round(seconds) if seconds < 60 else round(seconds / 5) * 5
    if rounded >= 3600:
        hours, minutes = divmod(round(seconds / 60), 60)
        return f"about {hours} h {minutes} min left"
    minutes, rest = divmod(rounded, 60)
    return f"about {f'{minutes} min {rest} s' if minutes else f'{rest} s'} left"


def plain(text: str) -> str:
    """Any text on one line, so that Markdown takes it as it is; class names come from strangers' files."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", text)


def code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ("class",)) -> str:
    """A Markdown table, in which columns of words stand to the left and figures to the right."""
    rule = ["---" if column in words else "--:" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def image(source: str, alt: str) -> str:
    return f"![{plain(alt)}]({source})"
