"""The figures of the probes as rows of tables, from findings as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

FAMILIES = ("colour", "texture", "sharpness")
"""Of what is measured of images."""
_NONE = "–"
_COLUMNS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "mean AUC"}


def title(found: Mapping[str, Any]) -> str:
    """The name of the check, and of the splits that it compares."""
    name, splits = str(found.get("check", "")).replace("_", " "), _figures(found).get("splits")
    return f"{name}, {' and '.join(splits)}" if splits else name


def told(found: Mapping[str, Any]) -> str:
    """What was found, and what to do about it."""
    return f"{found.get('message', '')} {found.get('advice', '')}".strip()


def further_examples(found: Mapping[str, Any]) -> list[str]:
    """Those that its message does not name."""
    message = str(found.get("message", ""))
    return [str(example) for example in found.get("examples", ()) if str(example) not in message]


def gravest_first(findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """In the order of their severity; among equals as they were."""
    place = {severity: place for place, severity in enumerate(("refused", "warning", "note"))}
    return sorted(findings, key=lambda found: place.get(str(found.get("severity")), len(place)))


def probes_table(findings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How far colour alone gets, beside guessing; None where it was not asked."""
    probes = next((probes for found in findings if (probes := _figures(found).get("probes"))), None)
    if not probes:
        return None
    shown = [key for key in _COLUMNS if probes[0].get(key)]
    rows = [
        {"name": str(probe["by"]), "figures": [interval(probe.get(key)) for key in shown]} for probe in probes
    ]
    guess = dict.fromkeys(shown, probes[0]["chance"]) | {"accuracy": probes[0].get("majority")}
    rows.append({"name": "guessing", "figures": [_figure(guess[key]) for key in shown]})
    return {"columns": [_COLUMNS[key] for key in shown], "rows": rows}


def compared(findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The figures of each two splits that were compared."""
    return [figures for found in findings if (figures := _figures(found)).get("splits")]


def comparisons_table(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each two splits that were compared."""
    return [_comparison(figures) for figures in compared(findings)]


def interval(figure: Mapping[str, float | None] | None) -> str:
    """0.812 (0.790 to 0.834); the figure alone where nothing can be said of chance."""
    if not figure:
        return _NONE
    if figure["low"] is None or figure["high"] is None:
        return _figure(figure["value"])
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _comparison(figures: Mapping[str, Any]) -> dict[str, Any]:
    chance, families = figures.get("by_chance"), figures.get("families", {})
    return {
        "name": " and ".join(figures["splits"]),
        "all": interval(figures["auc"]),
        "families": {name: _figure(families.get(name, {}).get("value")) for name in FAMILIES},
        "by_chance": f"{chance[0]:.3f} to {chance[1]:.3f}" if chance else _NONE,
    }


def _figures(found: Mapping[str, Any]) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = found.get("figures", {})
    return figures


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"
