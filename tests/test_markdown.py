"""What strangers wrote stays text, wherever Markdown is shown."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from histoflow.markdown import plain, table

STRANGE = [
    "![p](http://e/p.png)",
    "[x](javascript:alert(1))",
    "[x]: http://e",
    "**b** and __b__, _i_ and *i*",
    "`rm -rf` and ``two``",
    "~~gone~~",
    "a | b || c",
    "<img src=x onerror=alert(1)> <!-- no --> <http://e>",
    "&lt;b&gt; &amp; &copy;",
    r"\* back\slash \\",
    *("# no heading", "> no quotation", "- no list", "+ no list", "* no list", "1. no list", "2) no list"),
    *("---", "===", "```", "- [ ] no task"),
]


def shown(markdown: str) -> tuple[set[str], str]:
    """The tags that a reader's program makes of it, and the text that is seen."""
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    text = re.sub(r"<[^>]*>", "", html)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return set(re.findall(r"<(\w+)", html)), text.strip()


@pytest.mark.parametrize("text", STRANGE)
def test_it_is_shown_as_it_was_written(text: str) -> None:
    assert shown(plain(text)) == ({"p"}, text)


@pytest.mark.parametrize("text", STRANGE)
def test_it_stays_in_its_cell(text: str) -> None:
    tags, seen = shown(table(["name", "why"], [["it", f"so\n{text}"], ["2", "3"]]))
    assert tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert f"so {text}" in seen


def test_line_breaks_become_spaces_and_figures_stay_as_they_are() -> None:
    assert plain("one\n\n# two\r\n- three") == r"one \# two - three"
    assert [plain(figure) for figure in ("-0.5", "+0.1", "0.93 (0.9 to 1)", "1.5")] == [
        *("-0.5", "+0.1", "0.93 (0.9 to 1)", "1.5"),
    ]
