"""Writes the report of a run: one HTML file that refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from histoflow import files
from histoflow.components import Results
from histoflow.markdown import plain
from histoflow.report.content import content


def write_page(results: Results) -> Path:
    """Write report.html into the run's folder; a report that was there stays whole until then."""
    return files.write_text(results.folder / "report.html", render_page(results))


def render_page(results: Results) -> str:
    return rendered("page.html.j2", content(results))


def rendered(template: str, content: Mapping[str, Any]) -> str:
    page = _template(template).render(content)
    # The name of a file need not be text; one such name must not cost the report.
    return page.encode("utf-8", errors="replace").decode()


@dataclass(frozen=True)
class Verbatim:
    """What stands in a block of code, where marks are no Markdown."""

    text: str

    def __str__(self) -> str:
        return self.text


def rendered_text(template: str, content: Mapping[str, Any]) -> str:
    """Of a template in Markdown, where a stranger's text stays text."""
    text = _template(template, finalize=_as_text).render(content)
    return text.encode("utf-8", errors="replace").decode()


def _as_text(value: Any) -> Any:
    return plain(value) if isinstance(value, str) else value


@lru_cache(maxsize=8)
def _template(name: str, finalize: Callable[[Any], Any] | None = None) -> Template:
    # Class names, messages and paths come from strangers' files: escape everything, once.
    environment = Environment(
        loader=PackageLoader("histoflow", "report"),
        autoescape=finalize is None,  # noqa: S701 - the other one escapes for Markdown
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
