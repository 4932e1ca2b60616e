"""The change record of a retraining, in Markdown: what is new, and how both models fared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from histoflow.data.store import Manifest, read_manifest
from histoflow.markdown import plain, table

if TYPE_CHECKING:
    from histoflow.models import Version
    from histoflow.retraining.verdict_record import Judged

_NONE = "–"


def sections(judged: Judged, challenger: Version, champion: Version | None) -> str:
    """What stands below the head of the record, which the registry of models writes."""
    parts = [
        "## Data",
        _data(judged, challenger, champion),
        f"## Against {champion.reference}" if champion else "## Champion",
        f"The gate: **{judged.verdict.decision}**. {plain(judged.verdict.why)}",
        *_comparison(judged),
        *(f"- {plain(note)}" for note in judged.notes),
        "## Checks" if judged.verdict.checks else "",
        _checks(judged),
    ]
    return "\n\n".join(part for part in parts if part)


def _data(judged: Judged, challenger: Version, champion: Version | None) -> str:
    new = read_manifest(challenger.folder)
    old = read_manifest(champion.folder) if champion else None
    head = ["", "challenger", *(["champion"] if old else [])]
    rows = [
        [what, of(new), *([of(old)] if old else [])]
        for what, of in (
            ("fingerprint", lambda one: one.fingerprint[:16]),
            *((f"{split} images", _counts(split)) for split in new.splits),
            ("left out by the audit", lambda one: f"{len(one.quarantine):,}"),
        )
    ]
    return "\n\n".join(filter(None, (plain(judged.data_changes), table(head, rows))))


def _counts(split: Any) -> Any:
    def told(manifest: Manifest) -> str:
        facts = manifest.splits[split]
        each = zip(manifest.classes, facts.counts, strict=True)
        return f"{facts.images:,} ({', '.join(f'{count:,} {name}' for name, count in each)})"

    return told


def _comparison(judged: Judged) -> Iterable[str]:
    if judged.images is None:
        return
    drawn = f", of {judged.groups:,} groups that were drawn whole" if judged.groups else ""
    yield f"Both predicted {judged.images:,} test images{drawn}; differences are challenger − champion."
    rows = [[_spoken(name), *_figures(figure)] for name, figure in judged.figures.items()]
    yield table(["figure", "champion", "challenger", "difference", "95 % interval"], rows)


def _figures(found: Mapping[str, Any]) -> list[str]:
    ends = [found["low"], found["high"]]
    interval = found["note"] if None in ends else f"{ends[0]:+.4f} to {ends[1]:+.4f}"
    return [_figure(found["a"]), _figure(found["b"]), _figure(found["difference"], "+.4f"), interval]


def _figure(value: float | None, form: str = ".4f") -> str:
    return _NONE if value is None else format(value, form)


def _checks(judged: Judged) -> str:
    rows = [[check.name, check.outcome, check.words] for check in judged.verdict.checks]
    return table(["check", "outcome", "in words"], rows) if rows else ""


def _spoken(name: str) -> str:
    return name.replace("_", " ")
