"""How the figures suffer from shifted stains, blur, compression, brightness and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from histoflow.components import Results
from histoflow.evaluation.degraded import signed
from histoflow.report import wording
from histoflow.report.pictures import Picture, picture
from histoflow.report.robustness_figure import degradation_chart
from histoflow.report.tables import title


def robustness_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    found = results.evaluation.get("robustness")
    if not found:
        return None
    if found.get("note"):
        return {"note": found["note"]}
    metrics = list(found["clean"]["scores"])
    return {
        "note": "",
        "worst": found["worst"],
        "images": _images(found),
        "metrics": [title(name) for name in metrics],
        "main": title(found["metric"]),
        "picture": _picture(found),
        "clean": _figures(found["clean"], metrics),
        "rows": [_row(one, metrics) for one in found["conditions"]],
        "intervals": _intervals(found),
        "notes": _notes(found),
    }


def _images(found: Mapping[str, Any]) -> str:
    if found["images"] == found["of"]:
        return f"all {found['of']:,} test images"
    return f"{found['images']:,} of the {found['of']:,} test images, of each class its share"


def _figures(of: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    return [wording.figure(of["scores"][name]) for name in metrics]


def _row(one: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    difference = one["difference"]
    bounded = difference["low"] is not None
    return {
        "name": f"{one['kind']}, {one['grade']}",
        "figures": _figures(one, metrics),
        "difference": wording.NONE if difference["value"] is None else signed(difference["value"]),
        "interval": f"{signed(difference['low'])} to {signed(difference['high'])}" if bounded else "",
        "strength": one["strength"],
    }


def _intervals(found: Mapping[str, Any]) -> str:
    return (
        f"± is one way for half of the images of each class, and the other way for the others. "
        f"Differences with their {found['level']:.0%} intervals: paired bootstrap over {found['by']}s, "
        f"{found['draws']:,} draws. Of {len(found['conditions'])}, one may leave out 0 by chance alone."
    )


def _notes(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader must know of single figures; what holds of several conditions is said once."""
    said: dict[str, list[str]] = {}
    for one in found["conditions"]:
        told = [f"{title(name)} is undefined: {why}" for name, why in one["undefined"].items()]
        for note in filter(None, (*told, one["difference"]["note"])):
            said.setdefault(note, []).append(f"{one['kind']}, {one['grade']}")
    clean = [
        ("clean", f"{title(name)} is undefined: {why}") for name, why in found["clean"]["undefined"].items()
    ]
    everywhere = len(found["conditions"])
    return clean + [
        ("all conditions" if len(where) == everywhere else "; ".join(where), note)
        for note, where in said.items()
    ]


def _picture(found: Mapping[str, Any]) -> Picture:
    name = found["metric"]
    chart = degradation_chart(found["clean"]["scores"][name], found["conditions"], name)
    strongest = {one["kind"]: wording.figure(one["scores"][name]) for one in found["conditions"]}
    ends = ", ".join(f"{kind} {value}" for kind, value in strongest.items())
    clean = wording.figure(found["clean"]["scores"][name])
    return picture(
        chart,
        f"Line chart of {title(name)} over three grades. Clean {clean}; at the strongest: {ends}.",
        f"The {title(name)} of the same images in worse and worse condition; dashed: that of the clean ones.",
    )
