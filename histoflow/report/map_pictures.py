"""The map of the images as the network sees them, coloured by class, by split and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow.components import SPLITS, Results
from histoflow.explanation import embedding
from histoflow.explanation.embedding import Embedding
from histoflow.report import map_figures, tables, wording
from histoflow.report.pictures import Picture, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_GROUPS = 12
"""More of them are not told apart by colour."""
_GONE = f"The map was made, and is gone: {embedding.FILE} is missing. Evaluate the run again."
_OF_ANOTHER = "The map kept is of another evaluation than the figures. Evaluate the run again."


def map_content(results: Results, told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The pictures, and what is to be said of them; None where no map was made."""
    if not told:
        return None
    if not told["explained"]:
        return _only(told["note"]) if told["note"] else None
    found = embedding.load(results.folder)
    if found is None:
        return _only(_GONE)
    if found.model and found.model != results.evaluation.get("model"):
        return _only(_OF_ANOTHER)
    groups, note = _groups(found)
    panels: dict[str, dict[str, NDArray[np.bool_]]] = {
        "class": _classes(found, tables.class_names(results)),
        "split": {name: found.of(name) for name in SPLITS},
        **({"group": groups} if groups else {}),
    }
    return {
        "pictures": [_picture(found, by, parts) for by, parts in panels.items()],
        "about": _about(found, told),
        "notes": [note] if note else [],
    }


def _only(note: str) -> dict[str, Any]:
    return {"pictures": [], "about": "", "notes": [note]}


def _picture(found: Embedding, by: str, parts: Mapping[str, NDArray[np.bool_]]) -> Picture:
    parts = {name: points for name, points in parts.items() if points.any()}
    told = ", ".join(f"{name} {int(points.sum()):,}" for name, points in parts.items())
    alt = f"Map of {len(found.points):,} images, one point each, coloured by {by}: {told}."
    figure = map_figures.scatter(found.points, parts, _axis_names(found))
    return picture(figure, alt, f"Coloured by {by}")


def _axis_names(found: Embedding) -> tuple[str, str]:
    first, second = (wording.percent(share, 1) for share in found.explained)
    return f"first axis: {first} of the variance", f"second axis: {second}"


def _classes(found: Embedding, names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Of several labels the images that show one class alone, then those with several, and with none."""
    if found.labels.ndim == 1:
        return {name: found.labels == number for number, name in enumerate(names)}
    shown = found.labels.sum(axis=1)
    return {
        **{name: (shown == 1) & (found.labels[:, number] == 1) for number, name in enumerate(names)},
        "several classes": shown > 1,
        "none of the classes": shown == 0,
    }


def _groups(found: Embedding) -> tuple[dict[str, NDArray[np.bool_]], str]:
    """The groups, or why they are not shown."""
    if not len(found.groups):
        return {}, "The data name no groups, so the map is not coloured by group."
    names = np.unique(found.groups)
    if len(names) > MOST_GROUPS:
        return {}, (
            f"The images are of {len(names):,} groups. Colours tell no more than {MOST_GROUPS} apart, so the "
            f"map is not coloured by group."
        )
    return {str(name): found.groups == name for name in names}, ""


def _about(found: Embedding, told: Mapping[str, Any]) -> str:
    counts = [
        f"{told['images'][name]:,} of {told['of'][name]:,} {name} images"
        if told["images"][name] < told["of"][name]
        else f"all {told['of'][name]:,} {name} images"
        for name in SPLITS
    ]
    return (
        f"A point for each image ({', '.join(counts)}): the features on which the network decides, along the "
        f"two axes on which they differ most (PCA). Images that lie together here may differ along others."
    )
