"""Writes the report of a run: one HTML file that refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from histoflow import files
from histoflow.components import Results
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


def rendered_text(template: str, content: Mapping[str, Any]) -> str:
    """Of a template that is no page, where a stranger's text must not begin a line or a cell of its own."""
    text = _template(template, finalize=_on_one_line).render(content)
    return text.encode("utf-8", errors="replace").decode()


def _on_one_line(value: Any) -> Any:
    return " ".join(value.replace("|", "\\|").split()) if isinstance(value, str) else value


@lru_cache(maxsize=8)
def _template(name: str, finalize: Callable[[Any], Any] | None = None) -> Template:
    # Class names, messages and paths come from strangers' files: escape everything.
    environment = Environment(
        loader=PackageLoader("histoflow", "report"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
