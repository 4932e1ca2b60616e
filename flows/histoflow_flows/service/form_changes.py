"""How the run form of a deployment differs from that of the plugins that are installed here."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

from histoflow.components import FIELD_KINDS

Schema = dict[str, Any]


def form_of(entrypoint: str) -> Schema:
    """The form that a flow would have if it were deployed now."""
    module, _, name = entrypoint.rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    form: Schema = json.loads(flow.parameters.model_dump_json(exclude_unset=True))
    return form


def changes(deployed: Schema, here: Schema) -> list[str]:
    """In words, what differs; empty where nothing does."""
    old, new = _experiment(deployed), _experiment(here)
    found = [
        change for field in FIELD_KINDS for change in _of_field(field, old.get(field, {}), new.get(field, {}))
    ]
    if not found and deployed != here:
        return ["other settings than components"]
    return found


def _experiment(form: Schema) -> Schema:
    properties: Schema = form.get("definitions", {}).get("Experiment", {}).get("properties", {})
    return properties


def _of_field(field: str, old: Schema, new: Schema) -> Iterator[str]:
    before, after = _components(old), _components(new)
    added, gone = sorted(after.keys() - before.keys()), sorted(before.keys() - after.keys())
    changed = sorted(name for name in after.keys() & before.keys() if after[name] != before[name])
    if added:
        yield f"{field} {', '.join(added)} is missing in the form"
    if gone:
        yield f"{field} {', '.join(gone)} is not installed here"
    if changed:
        yield f"{field} {', '.join(changed)} has other parameters"


def _components(place: Schema) -> dict[str, Schema]:
    """The parameters of each component that the form offers in this place."""
    choice = place.get("items", place)
    return {
        name: {key: value for key, value in tab["properties"].items() if key != "name"}
        for tab in choice.get("anyOf", [choice])
        if "properties" in tab
        for name in tab["properties"].get("name", {}).get("enum", ())
    }
