"""The change record: what a person reads of why a model is in use, or is not."""

from __future__ import annotations

from collections.abc import Iterator

from histoflow.markdown import plain, table
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
        *([plain(change.why)] if change.why else []),  # in a cell, Prefect's pages would cut it off
        table(("", ""), _facts(change, version)),
        "## Test figures",
        _figures(version, displaced),
        *([text.strip()] if text.strip() else []),
        "## To decide otherwise",
        "\n".join(f"- `{command}` {effect}" for command, effect in _ways(change, version)),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(change: Change, version: Version) -> list[tuple[str, str]]:
    record = version.record
    facts = [
        ("Change", str(change.number)),
        ("When", change.time),
        ("By", change.by),
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


def _ways(change: Change, version: Version) -> Iterator[tuple[str, str]]:
    """Commands that can be given after the change, and what they do."""
    if change.what == "promote" and change.replaced:
        yield f"histoflow rollback {version.name}", "makes the champion before this one champion again."
    if change.what == "rollback" and change.replaced:
        back = f"histoflow promote {version.name}@{change.replaced}"
        yield back, "makes the former champion champion again, unless this one does better."
    if change.what == "hold":
        promote = f"histoflow promote {version.reference}"
        yield promote, "makes it the champion, unless the champion does better."
        yield f"histoflow reject {version.reference}", "turns it down."
    if change.what == "reject":
        yield f"histoflow promote {version.reference} --anyway", "makes it the champion all the same."
    yield f"histoflow models {version.name}", "lists all versions and what happened to them."


def _figures(version: Version, displaced: Version | None) -> str:
    shown = [version, *([displaced] if displaced else [])]
    names = dict.fromkeys(name for one in shown for name in one.record.metrics)
    rows = [(name.replace("_", " "), *(_figure(one, name) for one in shown)) for name in names]
    return table(("", *(f"version {one.number}" for one in shown)), rows)


def _figure(version: Version, name: str) -> str:
    return version.record.metrics.get(name, Figure(value=None)).words
