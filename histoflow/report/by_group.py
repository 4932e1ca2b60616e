"""Figures of whole slides and patients, put together from their images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from histoflow.components import Results, Score
from histoflow.evaluation.scores import from_json
from histoflow.report import wording
from histoflow.report.tables import title


def by_group_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where images have no groups, or none were asked for."""
    told = results.evaluation.get("aggregated")
    if not told:
        return None
    scores = {way: from_json(one) for way, one in told["by"].items()}
    return {
        "groups": f"{told['groups']:,}",
        "sizes": _sizes(told),
        "mixed": _mixed(told, several=results.labels.ndim == 2),
        "undefined": told["undefined"],
        "ways": [_way(way, told["top_k"]) for way in scores],
        "rows": [
            (title(name), [_cell(found[name]) for found in scores.values()])
            for name in next(iter(scores.values()), ())
        ],
        "intervals": _intervals(told),
        "notes": wording.notes_of_tables(
            (_way(way, told["top_k"]), overall_notes(found)) for way, found in scores.items()
        ),
    }


def _cell(score: Score) -> tuple[str, str]:
    return wording.figure(score.value), wording.interval(score.interval)


def _way(way: str, top_k: int) -> str:
    return {"max": "highest", "top_k": f"mean of the {top_k} highest"}.get(way, way)


def _sizes(told: Mapping[str, Any]) -> str:
    smallest, largest = told["smallest"], told["largest"]
    if smallest == largest:
        return f"each of {wording.count(largest, 'image', 'images')}"
    return f"of {smallest:,} to {largest:,} images"


def _mixed(told: Mapping[str, Any], *, several: bool) -> str:
    if several:
        return "A group shows each class that any of its images shows."
    if not told["mixed"]:
        return "All images of a group are of one class."
    return (
        f"{told['mixed']:,} of them hold images of several classes, and count as of the class that most of "
        f"their images are of."
    )


def _intervals(told: Mapping[str, Any]) -> str:
    return next((wording.how_intervals_came(one["intervals"]) for one in told["by"].values()), "")


def overall_notes(found: Mapping[str, Score]) -> dict[str, Score]:
    """Scores of which only the overall figure is shown, without what is said of the classes' intervals."""
    return {name: replace(one, interval_note="") if one.interval else one for name, one in found.items()}
