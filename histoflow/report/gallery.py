"""Images that the model is sure or unsure of, where it looked, and a map of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histoflow.components import Results
from histoflow.explanation import galleries
from histoflow.explanation.galleries import Gallery
from histoflow.report import gallery_pictures, map_pictures, tables, wording
from histoflow.report.gallery_pictures import Thumb

_TITLES = {
    "right": "Surest of those told rightly",
    "wrong": "Surest of those told wrongly",
    "unsure": "Least sure",
    "found": "Surest of those found",
    "false_alarm": "Surest of the false alarms",
    "missed": "Missed by most",
}
_KINDS = {False: ("right", "wrong", "unsure"), True: ("found", "false_alarm", "missed")}
_LONGEST_SOURCE = 60


@dataclass(frozen=True)
class Shown:
    """An image with its overlays."""

    thumbs: Sequence[Thumb]
    source: str
    full_source: str
    told: str


def gallery_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    told = results.evaluation.get("explained") or {}
    note = told.get("note")
    examples = _only(note) if note else _examples(results, told.get("gallery"))
    plane = map_pictures.map_content(results, told.get("embedding"))
    return {"examples": examples, "map": plane} if examples or plane else None


def _examples(results: Results, told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not told:
        return None
    gallery = galleries.load(results.folder)
    if gallery is None:
        return _only(_GONE)
    other = gallery.model and gallery.model != results.evaluation.get("model")
    if other or gallery.indices.tolist() != [image["index"] for image in told["images"]]:
        return _only(_OF_ANOTHER)
    names, several = tables.class_names(results), results.labels.ndim == 2
    shown = [_shown(gallery, row, image, names, several) for row, image in enumerate(told["images"])]
    kinds: dict[tuple[str, str], list[Shown]] = {}
    for image, one in zip(told["images"], shown, strict=True):
        kinds.setdefault((image["class"], image["kind"]), []).append(one)
    return {
        "about": _about(told, several),
        "note": told["note"],
        "classes": [
            (name, [(_TITLES[kind], kinds.get((name, kind), [])) for kind in _KINDS[several]])
            for name in names
        ],
    }


def _only(note: str) -> dict[str, Any]:
    return {"about": "", "note": note, "classes": []}


_GONE = f"The pictures were made, and are gone: {galleries.FILE} is missing. Evaluate the run again."
_OF_ANOTHER = "The pictures kept are of another evaluation than the figures. Evaluate the run again."


def _about(told: Mapping[str, Any], several: bool) -> str:
    kind = "calibrated probability" if told["calibrated"] else "probability"
    parts = [f"Test images; beside each class its {kind}."]
    if told["grid"]:
        height, width = told["grid"]
        of = (
            "the class of the heading"
            if several
            else "the class told and, where that is wrong, for the right one"
        )
        parts.append(
            f"The overlays (Grad-CAM, of {height} × {width} places) show what speaks for {of}: nothing where "
            f"the image is plain, most where it is yellow. Each is scaled to its own highest value."
        )
    return " ".join(parts)


def _shown(gallery: Gallery, row: int, told: Mapping[str, Any], names: Sequence[str], several: bool) -> Shown:
    image, source = gallery.images[row], str(told["source"])
    overlays = [
        gallery_pictures.overlay(image, gallery.maps[place], names[gallery.map_classes[place]])
        for place in np.flatnonzero(gallery.map_rows == row)
    ]
    return Shown(
        thumbs=[gallery_pictures.plain(image), *overlays],
        source=source if len(source) <= _LONGEST_SOURCE else f"…{source[1 - _LONGEST_SOURCE :]}",
        full_source=source,
        told=_words(told, several),
    )


def _words(told: Mapping[str, Any], several: bool) -> str:
    """'told mucus 0.431 against stroma 0.402, is debris 0.052'; the next class where it is unsure."""
    likely = {name: f"{name}\u00a0{wording.figure(value)}" for name, value in told["probabilities"].items()}
    if several:
        (probability,) = told["probabilities"].values()
        return f"{wording.figure(probability)}; shows {', '.join(told['true']) or 'none of the classes'}"
    (said,), (true,) = told["told"], told["true"]
    words = f"told {likely.pop(said)}"
    next_one = next(iter(likely), true)
    if told["kind"] == "unsure" and next_one != true:
        words += f" against {likely[next_one]}"
    return words if said == true else f"{words}, is {likely[true]}"
