"""What the report says of the audit: findings by severity, how far colour gets, how far splits differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from histoflow.data.audit.quarantine import by_reason
from histoflow.data.audit.tables import (
    compared,
    comparisons_table,
    further_examples,
    gravest_first,
    interval,
    probes_table,
    title,
    told,
)
from histoflow.report.audit_figure import shift_chart
from histoflow.report.pictures import Picture, picture

_SHOWN = 12


def audit_content(data: Mapping[str, Any]) -> dict[str, Any]:
    """From the manifest of the packed data; it may lack anything."""
    findings = list(data.get("findings", ()))
    quarantine = list(data.get("quarantine", ()))
    return {
        "ran": "findings" in data,
        "findings": _grave(findings),
        "fine": _fine(findings),
        "probes": probes_table(findings),
        "comparisons": comparisons_table(findings),
        "comparison_picture": _picture(compared(findings)),
        "quarantine": quarantine[:_SHOWN],
        "quarantined": len(quarantine),
        "unlisted": max(0, len(quarantine) - _SHOWN),
        "reasons": by_reason((str(image["source"]), str(image["reason"])) for image in quarantine),
    }


def _grave(findings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All but those that found nothing, the gravest first."""
    return [
        {
            "check": title(found),
            "severity": str(found.get("severity", "note")),
            "message": told(found),
            "examples": further_examples(found),
        }
        for found in gravest_first(findings)
        if found.get("severity") != "ok"
    ]


def _fine(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(title(found) for found in findings if found.get("severity") == "ok"))


def _picture(comparisons: Sequence[Mapping[str, Any]]) -> Picture | None:
    if not comparisons:
        return None
    told = [f"{' and '.join(figures['splits'])} {interval(figures['auc'])}" for figures in comparisons]
    return picture(
        shift_chart(comparisons),
        f"AUC at telling images of one split from those of another: {', '.join(told)}.",
        "How well a plain classifier tells splits apart, with 95% intervals. 0.5 is guessing; the pale band "
        "is what random cuts of the groups of train and val come to.",
    )
