"""How the cards say numbers and write Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from histoflow.markdown import plain
from histoflow.progress import duration
from histoflow.report import wording

figure = wording.figure


def time_left(seconds: float) -> str:
    return f"about {duration(seconds)} left"


def code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ("class",)) -> str:
    """A Markdown table, in which columns of words stand to the left and figures to the right."""
    rule = ["---" if column in words else "--:" for column in columns]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def image(source: str, alt: str) -> str:
    return f"![{plain(alt)}]({source})"
