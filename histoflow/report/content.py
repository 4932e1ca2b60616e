"""What the report says: results in, everything that the page's template shows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histoflow import files
from histoflow.components import SPLITS, Results
from histoflow.evaluation.curves import class_counts, confusion_matrix
from histoflow.report import pictures, tables, wording
from histoflow.report.audit import audit_content
from histoflow.report.by_group import by_group_content
from histoflow.report.champion import champion_content, settled_content, verdict_content
from histoflow.report.gallery import gallery_content
from histoflow.report.headline import headline_content
from histoflow.report.reproducing import reproduce_content
from histoflow.report.robustness import robustness_content
from histoflow.report.trust import trust_content
from histoflow.retraining import settled_record, verdict_record


def content(results: Results) -> dict[str, Any]:
    """All that the page shows."""
    names = tables.class_names(results)
    best = results.run.get("best") or {}
    found = verdict_record.read(results.folder)
    shown = essentials(results) | {
        "title": title_of(results.run),
        "asked": asked_for(results.run.get("experiment", {})),
        "trained": training_facts(results),
        "images": len(results.labels),
        "headline": headline_content(results),
        "verdict": verdict_content(found),
        "settled": settled_content(settled_record.read(results.folder)),
        "champion": champion_content(found),
        "curves": pictures.training_pictures(results.history, best.get("epoch")),
        "trust": trust_content(results),
        "by_group": by_group_content(results),
        "robustness": robustness_content(results),
        "gallery": gallery_content(results),
        "precision_recall": pictures.precision_recall_picture(results.labels, results.probabilities, names),
        "reproduce": reproduce_content(results.run),
        "configuration": files.yaml_of(results.run.get("experiment", {})),
        "environment": results.run.get("environment", {}),
        "plugins": results.run.get("plugins", ()),
        "fingerprint": _fingerprint(results.data, results.run),
        "licence": results.data.get("licence", ""),
        "citation": results.data.get("citation", ""),
    }
    return {**shown, "contents": _contents(shown)}


def essentials(results: Results) -> dict[str, Any]:
    """What a page that has room for little shows, too."""
    names = tables.class_names(results)
    return {
        "data": data_facts(results.data, results.run),
        "doubt": _doubt(results),
        "figures": tables.figures_table(results),
        "audit": audit_content(results.data),
        "openings": _openings(results.run),
        **_classes(results, names),
        "roc": pictures.roc_picture(results.labels, results.probabilities, names),
    }


def _contents(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where each section stands, and its name; those that have nothing to say are not there."""
    gallery, champion = shown["gallery"] or {}, shown["champion"] or {}
    sections = (
        ("figures", "All figures", True),
        ("champion", champion.get("title", ""), champion),
        ("audit", "Audit", True),
        ("training", "Training", shown["curves"]),
        ("confusion", "Confusion matrix", shown["confusion"]),
        ("classes", "Classes", True),
        ("thresholds", "Thresholds", shown["roc"]),
        ("calibration", "Calibration", shown["trust"]),
        ("by_group", "By group", shown["by_group"]),
        ("robustness", "Robustness", shown["robustness"]),
        ("images", "Images", gallery.get("examples")),
        ("map", "Map", gallery.get("map")),
        ("reproduce", "Reproduce", True),
    )
    return [(place, name) for place, name, there in sections if there]


def _classes(results: Results, names: Sequence[str]) -> dict[str, Any]:
    """What was taken for what; where images have several labels, what was found and what was missed."""
    if results.labels.ndim == 2:
        answers = tables.answers(names, results.labels, results.probabilities)
        return {"confusion": None, "outcomes": (), "answers": answers}
    matrix = confusion_matrix(results.labels, results.probabilities.argmax(axis=1), len(names))
    picture = pictures.confusion_picture(matrix, names)
    return {"confusion": picture, "outcomes": tables.outcomes(names, matrix), "answers": ()}


def title_of(run: Mapping[str, Any]) -> dict[str, str]:
    identity = str(run.get("id", "unnamed run"))
    name = str(run.get("name", identity))
    return {
        "name": name,
        "id": f"Run {identity}" if identity != name else "",
        "created": wording.moment(str(run.get("created", ""))),
    }


def asked_for(experiment: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The component, its name, its parameters."""
    kinds = ("dataset", "architecture", "loss", "optimizer", "scheduler")
    return [(kind, *wording.choice(experiment[kind])) for kind in kinds if kind in experiment]


def data_facts(data: Mapping[str, Any], run: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = {
        "images": _images(data),
        "format": _format(data),
        "groups": _groups(data),
        "fingerprint": _fingerprint(data, run)[:16],
    }
    return [(name, value) for name, value in facts.items() if value]


def _images(data: Mapping[str, Any]) -> str:
    splits = data.get("splits", {})
    counts = [(name, splits[name]["images"]) for name in SPLITS if "images" in splits.get(name, {})]
    parts = ", ".join(f"{name} {number:,}" for name, number in counts)
    return f"{sum(number for _, number in counts):,} ({parts})" if counts else ""


def _format(data: Mapping[str, Any]) -> str:
    if "size" not in data:
        return ""
    height, width = data["size"]
    channels = wording.count(data["channels"], "channel", "channels") if "channels" in data else ""
    return ", ".join(filter(None, (f"{width} × {height} px", channels)))


def _groups(data: Mapping[str, Any]) -> str:
    splits = data.get("splits", {})
    counts = [(name, splits[name].get("groups")) for name in SPLITS if name in splits]
    return ", ".join(f"{name} {number:,}" for name, number in counts if number)


def _fingerprint(data: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    return str(data.get("fingerprint") or run.get("data_fingerprint") or "")


def training_facts(results: Results) -> list[tuple[str, str]]:
    facts = {
        "began with": str(results.run.get("warm_from") or ""),
        "best epoch": _best_epoch(results),
        "stopped": str(results.run.get("stopped") or ""),
        "time": _time(results),
        "speed": _speed(results),
        "seed": str(results.run.get("experiment", {}).get("seed", "")),
    }
    return [(name, value) for name, value in facts.items() if value]


def _best_epoch(results: Results) -> str:
    best = results.run.get("best")
    if not best:
        return ""
    of = f" of {len(results.history)}" if results.history else ""
    value = best.get("value")
    by = f", {best['monitor']} {wording.figure(value)}" if "monitor" in best else ""
    return f"{best.get('epoch', wording.NONE)}{of}{by}"


def _time(results: Results) -> str:
    seconds = [entry["seconds"] for entry in results.history if entry.get("seconds") is not None]
    sessions = results.run.get("sessions", ())
    device = sessions[-1].get("device", "") if sessions else ""
    return f"{wording.duration(sum(seconds))}{f' on {device}' if device else ''}" if seconds else ""


def _speed(results: Results) -> str:
    speeds = [
        entry["images_per_second"] for entry in results.history if entry.get("images_per_second") is not None
    ]
    return f"{np.median(speeds):,.0f} images/s (median)" if speeds else ""


def _doubt(results: Results) -> str:
    """The page calls these the figures of the test split; if the counts disagree, it must say so."""
    test = results.data.get("splits", {}).get("test", {})
    expected = test.get("counts")
    found = class_counts(results.labels, results.probabilities.shape[1])
    if expected is None or list(expected) == found:
        return ""
    return (
        f"The {len(results.labels):,} images scored here are not the test split of these data "
        f"({tables.images_of(test):,} images). Read the figures with care."
    )


def own_openings(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those for a model of the run itself; the champion that it is compared with is not chosen by them."""
    return [opening for opening in run.get("test_openings", ()) if not opening.get("of")]


def _openings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Looking again with another model is choosing by the test split; with the same one it is not."""
    own = own_openings(run)
    return {
        "all": [_opening(entry) for entry in run.get("test_openings", ())],
        "times": len(own),
        "models": len({entry.get("model") for entry in own}),
        "first": _opening(own[0]) if own else None,
    }


def _opening(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "time": wording.moment(str(entry.get("time", ""))),
        "reason": str(entry.get("reason", "")),
        "model": str(entry.get("model", ""))[:16],
    }
