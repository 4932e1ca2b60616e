"""The model card: what a model is for, what it was made of, how far it can be trusted. One Markdown file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from histoflow import files
from histoflow.components import Results, Score
from histoflow.evaluation.intervals import ROUGH_BELOW
from histoflow.evaluation.scores import from_json
from histoflow.report import tables, wording
from histoflow.report.champion import settled_content, verdict_content
from histoflow.report.content import asked_for, data_facts, own_openings, title_of, training_facts
from histoflow.report.page import Verbatim, rendered_text
from histoflow.report.reproducing import reproduce_content
from histoflow.retraining import settled_record, verdict_record

FILE = "MODEL_CARD.md"
FEW_IMAGES = 30
"""Of a class, below which the card says that its figures rest on little."""


def write_card(results: Results, *, intended: str, not_for: str, contact: str) -> Path:
    """Write MODEL_CARD.md into the run's folder."""
    words = {"intended": intended, "not_for": not_for, "contact": contact}
    return files.write_text(
        results.folder / FILE, rendered_text("model_card.md.j2", content(results) | words)
    )


def content(results: Results) -> dict[str, Any]:
    names, reproduce = tables.class_names(results), reproduce_content(results.run)
    return {
        "title": title_of(results.run),
        "model": _weights(results),
        "asked": asked_for(results.run.get("experiment", {})),
        "classes": names,
        "data": data_facts(results.data, results.run),
        "licence": results.data.get("licence", ""),
        "citation": results.data.get("citation", ""),
        "findings": list(_warnings(results.data)),
        "trained": training_facts(results),
        "images": f"{len(results.labels):,}",
        "figures": [(tables.title(name), *_figure(score)) for name, score in results.metrics.items()],
        "intervals": wording.how_intervals_came(results.intervals),
        "classwise": tables.figures_table(results),
        "trust": list(_trust(results.evaluation)),
        "groups": list(_groups(results.evaluation)),
        "robustness": (results.evaluation.get("robustness") or {}).get("worst", ""),
        "limits": list(_limits(results, names)),
        "gate": verdict_content(verdict_record.read(results.folder)),
        "settled": settled_content(settled_record.read(results.folder)),
        "command": Verbatim(reproduce["command"]),
        "needs": reproduce["needs"],
        "versions": {name: version for name, version in _versions(results.run) if version},
    }


def _weights(results: Results) -> str:
    return str(results.evaluation.get("model", ""))


def _figure(score: Score) -> tuple[str, str]:
    return wording.figure(score.value), wording.interval(score.interval) or wording.NONE


def _warnings(data: Mapping[str, Any]) -> Iterator[str]:
    for found in data.get("findings", ()):
        if found.get("severity") in ("warning", "refused"):
            yield str(found.get("message", ""))


def _trust(told: Mapping[str, Any]) -> Iterator[str]:
    """Calibration, operating point and prediction sets, in a sentence each."""
    calibration = told.get("calibration") or {}
    if calibration.get("after"):
        errors = (from_json({"scores": calibration[when]})["ece"] for when in ("before", "after"))
        change = " to ".join(wording.with_interval(one.value, one.interval) for one in errors)
        yield (
            f"A temperature of {calibration['temperature']:.3g}, fitted on validation, changes the "
            f"calibration error (ECE) on the test split from {change}."
        )
    operating = told.get("operating") or {}
    if operating.get("thresholds"):
        thresholds = ", ".join(f"{one:.3g}" for one in operating["thresholds"])
        yield f"Operating point: {thresholds} ({operating['rule']})."
    sets = told.get("sets") or {}
    if sets:
        coverage = from_json(sets)["coverage"]
        yield (
            f"Prediction sets were made to hold the true class in {sets['coverage']:g} of all cases; on the "
            f"test split they hold it in {wording.with_interval(coverage.value, coverage.interval)}."
        )


def _groups(told: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Way of putting images together, metric, figure, interval."""
    for way, found in ((told.get("aggregated") or {}).get("by") or {}).items():
        for name, score in from_json(found).items():
            yield (way, tables.title(name), *_figure(score))


def _limits(results: Results, names: list[str]) -> Iterator[str]:
    """What a reader must not expect, as far as the data tell."""
    test = results.data.get("splits", {}).get("test", {})
    groups, counts = test.get("groups"), test.get("counts") or ()
    if groups is None:
        yield (
            "The data name no patients or slides: if images of one stand in several splits, or several in "
            "the test split, the figures are too good and their intervals too narrow."
        )
    elif groups < ROUGH_BELOW:
        yield f"The test split holds images of {groups} groups only: intervals are rough."
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=False) if count < FEW_IMAGES]
    if few:
        yield f"Figures of classes with fewer than {FEW_IMAGES} test images rest on little: {', '.join(few)}."
    models = len({opening.get("model") for opening in own_openings(results.run)})
    if models > 1:
        yield f"The test split was opened for {models} models of this run: its figures may flatter."
    if "size" in results.data:
        height, width = results.data["size"]
        yield f"It was trained on images of {width} × {height} pixels; it knows no other magnification."
    yield "Images of other laboratories, scanners and stains may be told far worse than these figures say."


def _versions(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    environment = run.get("environment", {})
    yield from ((name, str(environment.get(name) or "")) for name in ("histoflow", "python", "torch"))
    yield from ((str(one.get("package")), str(one.get("version"))) for one in run.get("plugins", ()))
