"""Evidence of the results: the test figures, what was mistaken for what, the data, where the report lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow.components import Results
from histoflow.markdown import plain
from histoflow.report.wording import NONE
from histoflow.runs import Run
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.listening import listening
from histoflow_flows.evidence.posting import EVERY, Poster
from histoflow_flows.evidence.wording import code, image, table
from histoflow_flows.evidence.work import Pieces

if TYPE_CHECKING:
    from histoflow.report.tables import Answer, FiguresTable, Outcome

RESULTS = "results"


@contextmanager
def of_report(run: Run) -> Iterator[list[Path]]:
    """Once the work inside has ended, show the results of the run and the pages that it added to the list."""
    pages: list[Path] = []
    whose = owner()
    if whose is None:
        yield pages
        return
    log = run_log()
    with Poster(whose, log, first_after=EVERY) as poster, listening(log, Pieces(poster, log)):
        try:
            yield pages
        finally:
            poster.show(RESULTS, partial(draw_results, run, tuple(pages)))


def draw_results(run: Run, pages: tuple[Path, ...]) -> Card:
    from histoflow.evaluating import results_of
    from histoflow.report.content import essentials

    results = results_of(run)
    found = essentials(results)
    parts = [
        _headline(results, found),
        _by_class(found),
        *_pictures(found),
        _data(found),
        _places(run, pages),
    ]
    return Card(RESULTS, "markdown", "\n\n".join(filter(None, parts)), _scores(found))


def _headline(results: Results, found: Mapping[str, Any]) -> str:
    best = (results.run.get("best") or {}).get("epoch", "–")
    openings = found["openings"]["times"]
    opened = "once" if openings == 1 else f"{openings} times"
    about = f"{len(results.labels):,} test images, model of epoch {best}, test split opened {opened}"
    how = found["figures"].intervals
    return "\n\n".join(filter(None, ("## Test figures", _scores(found), how, about, _doubts(found))))


def _scores(found: Mapping[str, Any]) -> str:
    figures = found["figures"]
    overall = figures.overall
    scores = zip(figures.metrics, overall.figures, overall.intervals, strict=True)
    return " · ".join(
        f"{plain(name)} **{value}**{f' ({interval})' if interval else ''}" for name, value, interval in scores
    )


def _doubts(found: Mapping[str, Any]) -> str:
    notes = [f"{name}: {note}" for name, note in found["figures"].notes]
    return "\n".join(f"> {plain(line)}" for line in filter(None, (found["doubt"], *notes)))


def _by_class(found: Mapping[str, Any]) -> str:
    """Two tables, as one would not fit beside the page's margin."""
    told = _answers(found["answers"]) if found["answers"] else _outcomes(found["outcomes"])
    return f"### By class\n\n{_figures(found['figures'])}\n\n{told}"


def _figures(figures: FiguresTable) -> str:
    """Of the metrics that have a figure for a class; the others would be columns of dashes."""
    told = [
        place
        for place in range(len(figures.metrics))
        if any(row.figures[place] != NONE for row in figures.classes)
    ]
    rows = [[plain(row.name), *(row.figures[place] for place in told)] for row in figures.classes]
    return table(["class", *(plain(figures.metrics[place]) for place in told)], rows) if told else ""


def _outcomes(outcomes: Sequence[Outcome]) -> str:
    rows = [[plain(o.name), o.images, o.share_right, plain(o.mistaken)] for o in outcomes]
    return table(
        ["class", "images", "right", "most often taken for"], rows, ("class", "most often taken for")
    )


def _answers(answers: Sequence[Answer]) -> str:
    rows = [[plain(a.name), a.images, a.share_found, a.given, a.share_right] for a in answers]
    return table(["class", "images", "found", "predictions", "right"], rows)


def _pictures(found: Mapping[str, Any]) -> list[str]:
    shown = {"Confusion": found["confusion"], "ROC": found["roc"]}
    return [
        f"### {name}\n\n{plain(picture.caption)}\n\n{image(picture.source, picture.alt)}"
        for name, picture in shown.items()
        if picture is not None
    ]


def _data(found: Mapping[str, Any]) -> str:
    audit = found["audit"]
    facts = [f"- {name}: {plain(value)}" for name, value in found["data"] if name != "fingerprint"]
    facts.append(f"- quarantined: {audit['quarantined']:,}")
    facts += [
        f"- **{plain(finding['severity'])}**, {plain(finding['check'])}: {plain(finding['message'])}"
        for finding in audit["findings"]
    ]
    return "### Data\n\n" + "\n".join(facts)


def _places(run: Run, pages: tuple[Path, ...]) -> str:
    """Paths, not links: a browser opens no file from a page of the web."""
    lines = [f"- report: {code(str(page))}" for page in pages]
    return "### On the machine that ran it\n\n" + "\n".join(
        [*lines, f"- run folder: {code(str(run.folder))}"]
    )
