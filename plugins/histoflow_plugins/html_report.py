"""The report of a run as one HTML page that opens anywhere, offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from histoflow import Params, Reporter, Results, hookimpl


def write(params: Params, results: Results) -> Sequence[Path]:
    from histoflow.report import write_page

    return [write_page(results)]


HTML = Reporter(
    name="html", summary="A self-contained page, report.html, in the run's folder", params=Params, write=write
)


@hookimpl
def histoflow_reporters() -> Iterable[Reporter[Params]]:
    return (HTML,)
