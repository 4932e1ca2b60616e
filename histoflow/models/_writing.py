"""The change record: what a person reads of why a model is in use, or is not."""

from __future__ import annotations

from collections.abc import Sequence

from histoflow.markdown import plain
from histoflow.models._state import Change
from histoflow.models._versions import Figure, Version

_DONE = {
    "promote": "became the champion",
    "hold": "waits for a person",
    "reject": "was turned down",
    "rollback": "became the champion again",
}


def change_record(change: Change, version: Version, displaced: Version | None, text: str) -> str:
    """In Markdown; ``text`` is what whoever made the change has to say of it."""
    parts = [
        f"# {plain(version.name)}: version {version.number} {_DONE[change.what]}",
        _table(("", ""), _facts(change, version)),
        "## Test figures",
        _figures(version, displaced),
        *([text.strip()] if text.strip() else []),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(change: Change, version: Version) -> list[tuple[str, str]]:
    record = version.record
    facts = [
        ("Change", str(change.number)),
        ("When", change.time),
        ("By", change.by),
        ("Why", change.why),
        ("Was before", change.former),
        *([("In place of", f"version {change.replaced}, now archived")] if change.replaced else []),
        ("Run", record.run),
        ("Model", record.model),
        ("Data", record.data_fingerprint),
        ("Code", f"histoflow {record.code_version}"),
        ("Plugins", ", ".join(f"{one['plugin']} {one['version']}" for one in record.plugins)),
        ("Seed", str(record.seed)),
        ("Champion when registered", f"version {record.parent}" if record.parent else "none"),
        ("Began from", record.warm_from or "scratch"),
    ]
    return [*facts, ("Note", record.note)] if record.note else facts


def _figures(version: Version, displaced: Version | None) -> str:
    shown = [version, *([displaced] if displaced else [])]
    names = dict.fromkeys(name for one in shown for name in one.record.metrics)
    rows = [(name.replace("_", " "), *(_figure(one, name) for one in shown)) for name in names]
    return _table(("", *(f"version {one.number}" for one in shown)), rows)


def _figure(version: Version, name: str) -> str:
    return version.record.metrics.get(name, Figure(value=None)).words


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)
