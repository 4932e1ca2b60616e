"""How far its probabilities can be trusted: calibration, operating point, prediction sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from histoflow.components import Results, Score
from histoflow.evaluation.scores import from_json
from histoflow.report import wording
from histoflow.report.by_group import overall_notes
from histoflow.report.pictures import Picture, picture
from histoflow.report.tables import class_names
from histoflow.report.trust_figures import reliability_chart

BARE, TEMPERED = "as given", "calibrated"
_TITLES = {"ece": "calibration error (ECE)", "brier": "Brier score", "log_loss": "log loss"}
_AT_THRESHOLD = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
}
_OF_SETS = {
    "coverage": "hold the true class",
    "size": "classes in a set",
    "abstained": "abstained",
    "accuracy_if_decided": "right where decided",
}
_Cell = tuple[str, str]
"""A figure, and its interval."""


@dataclass(frozen=True)
class Table:
    caption: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[_Cell]]]


def trust_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None for runs that were evaluated before there was any of it."""
    told = results.evaluation
    if not told.get("calibration"):
        return None
    names, several = class_names(results), results.labels.ndim == 2
    return {
        "temperature": _temperature(told["calibration"]),
        "picture": _reliability(told["calibration"], several),
        "calibration": _calibration(told["calibration"]),
        "operating": _operating(told["operating"], names, several) if told.get("operating") else None,
        "sets": _sets(told["sets"], names, several) if told.get("sets") else None,
        "notes": [*told.get("notes", ()), *_notes(told)],
    }


# ── Calibration ─────────────────────────────────────────────────────────────────────────────────


def _temperature(told: Mapping[str, Any]) -> str:
    temperature = told["temperature"]
    if told["after"] is None:
        return "Probabilities are as the network gives them."
    sure = "less" if temperature > 1 else "more"
    images = wording.count(told["images"], "validation image", "validation images")
    return (
        f"A temperature of {temperature:.3g}, fitted on {images}, makes the probabilities {sure} sure. "
        f"It changes nothing about which class is the likeliest."
    )


def _reliability(told: Mapping[str, Any], several: bool) -> Picture:
    lines = {BARE: told["bins"]["before"], TEMPERED: told["bins"]["after"]}
    shown = {name: bins for name, bins in lines.items() if bins}
    errors = ", ".join(
        f"{wording.figure(told[when]['ece']['value'])} {name}"
        for when, name in (("before", BARE), ("after", TEMPERED))
        if told[when]
    )
    of = "each answer (an image and a class)" if several else "each image's likeliest class"
    return picture(
        reliability_chart(shown),
        f"Reliability diagram. Calibration error: {errors}.",
        f"Of {of}, in bins of like probability: the share that is right. On the dashed line probabilities "
        f"mean what they say. Below, how many each bin holds; of few, the share is much by chance.",
    )


def _calibration(told: Mapping[str, Any]) -> Table:
    kinds = {name: told[key] for key, name in (("before", BARE), ("after", TEMPERED)) if told[key]}
    scores = {name: from_json({"scores": kept}) for name, kept in kinds.items()}
    rows = [
        (_TITLES.get(metric, metric), [_cell(found[metric]) for found in scores.values()])
        for metric in told["before"]
    ]
    caption = (
        f"How far probabilities are from what is true, as the network gives them"
        f"{' and calibrated' if told['after'] else ''}; less is better. The interval of the calibration "
        f"error lies high, as every resample adds chance to its bins."
    )
    return Table(caption, list(scores), rows)


# ── Operating point and sets ────────────────────────────────────────────────────────────────────


def _operating(told: Mapping[str, Any], names: Sequence[str], several: bool) -> dict[str, Any]:
    scores = from_json(told)
    thresholds = [f"{one:.3g}" for one in told["thresholds"] or ()]
    rows = list(_rows(scores, names)) if several else [(names[1], [_cell(one) for one in scores.values()])]
    if thresholds:
        firsts = ["", *thresholds] if several else thresholds
        rows = [(name, [(first, ""), *cells]) for first, (name, cells) in zip(firsts, rows, strict=True)]
    columns = [_AT_THRESHOLD.get(name, name) for name in scores]
    subject = "each class" if several else names[1]
    table = Table(
        f"How {subject} is told on the test split. Rule: {told['rule']}.",
        ["threshold", *columns] if thresholds else columns,
        rows,
    )
    return {"table": table, "validation": _on_validation(told["validation"])}


def _on_validation(told: Mapping[str, Any]) -> str:
    figures = [f"{_AT_THRESHOLD.get(name, name)} {wording.figure(told[name]['value'])}" for name in told]
    return f"On validation: {', '.join(figures)}."


def _sets(told: Mapping[str, Any], names: Sequence[str], several: bool) -> dict[str, Any]:
    scores = from_json(told)
    columns = [_OF_SETS.get(name, name) for name in scores]
    kind = "hold each class that an image shows" if several else "hold the true class"
    caption = f"Prediction sets of the test images, made to {kind} in {told['coverage']:g} of all cases."
    return {"table": Table(caption, columns, list(_rows(scores, names))), "decides": not several}


def _rows(scores: Mapping[str, Score], names: Sequence[str]) -> Iterator[tuple[str, Sequence[_Cell]]]:
    yield "all", [_cell(score) for score in scores.values()]
    for index, name in enumerate(names):
        yield name, [_cell(score, index) for score in scores.values()]


def _cell(score: Score, index: int | None = None) -> _Cell:
    """The overall figure, or that of a class."""
    if index is None:
        return wording.figure(score.value), wording.interval(score.interval)
    value = score.per_class[index] if score.per_class else None
    ends = score.per_class_intervals[index] if score.per_class_intervals else None
    return wording.figure(value), wording.interval(ends)


def _notes(told: Mapping[str, Any]) -> list[str]:
    """Why figures of the tables are missing, or have no interval."""
    tables = [
        (name, overall_notes(from_json({"scores": told["calibration"][when]})))
        for when, name in (("before", BARE), ("after", TEMPERED))
        if told["calibration"][when]
    ]
    others = [("", from_json(told[part])) for part in ("operating", "sets") if told.get(part)]
    return wording.notes_of_tables([*tables, *others])
