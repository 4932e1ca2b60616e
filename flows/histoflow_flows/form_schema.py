"""The JSON schema of an experiment in the dialect that Prefect's run form draws well.

Prefect's server checks what is submitted against this schema, and its UI (3.8, v2) draws the form from it.
Of a choice between objects the UI

- keeps a tab open only if the choice is written ``anyOf``, and loses track with ``oneOf``;
- opens the first object that shares most keys with the value, whatever ``name`` says;
- fills in a ``name`` only from its default, and draws it as a text to edit unless it is an ``enum``.

So components with the same parameters share one tab and are told apart there by ``name``, and the tabs
stand in the order of how many keys they have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from histoflow.components import FIELD_KINDS
from histoflow.experiment import is_list

Schema = dict[str, Any]


class FormSchema:
    """Annotates the experiment's model; changes its schema alone, not what it accepts."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for field in FIELD_KINDS:
            if is_list(field):
                _redraw(properties[field], "items", handler)
            else:
                _redraw(properties, field, handler)
        return schema


def _redraw(place: Schema, key: str, handler: GetJsonSchemaHandler) -> None:
    """Put tabs where pydantic drew a union of variants."""
    drawn = place[key]
    variants = [handler.resolve_ref_schema(one) for one in drawn.get("oneOf", [drawn])]
    if not all("const" in variant["properties"]["name"] for variant in variants):
        return  # no component of this kind is installed
    about = {key: value for key, value in drawn.items() if key not in ("$ref", "oneOf", "discriminator")}
    place[key] = about | _tabs(variants)
    holder = place if key == "items" else place[key]
    if "default" in holder:
        holder["default"] = _spelled_out(holder["default"], {_name(variant): variant for variant in variants})


def _tabs(variants: Sequence[Schema]) -> Schema:
    """A choice between tabs that lets keys of any tab through: a form may keep them, the flow drops them."""
    keys = sorted({key for variant in variants for key in variant["properties"]})
    tabs = sorted((_tab(group) for group in _alike(variants)), key=lambda tab: len(tab["properties"]))
    return {"propertyNames": {"enum": keys}} | ({"anyOf": tabs} if len(tabs) > 1 else tabs[0])


def _name(variant: Schema) -> str:
    return str(variant["properties"]["name"]["const"])


def _spelled_out(default: Any, variants: Mapping[str, Schema]) -> Any:
    """A component that is named by a bare string, as the object that the form can show."""
    if isinstance(default, list):
        return [_spelled_out(one, variants) for one in default]
    if not isinstance(default, str):
        return default
    properties = variants[default]["properties"].items()
    return {"name": default} | {key: value["default"] for key, value in properties if "default" in value}


def _alike(variants: Iterable[Schema]) -> Iterable[Sequence[Schema]]:
    """The variants with the same parameters together."""
    groups: dict[frozenset[str], list[Schema]] = defaultdict(list)
    for variant in variants:
        groups[frozenset(variant["properties"])].append(variant)
    return groups.values()


def _tab(group: Sequence[Schema]) -> Schema:
    """One object that stands for all variants of the group."""
    names = [_name(variant) for variant in group]
    shared = {
        key: _agreed([variant["properties"][key] for variant in group])
        for key in group[0]["properties"]
        if key != "name"
    }
    return {
        "title": ", ".join(names),
        "description": _descriptions(group, names),
        "type": "object",
        "properties": {"name": _names(names), **shared},
        "required": ["name", *(key for key in group[0].get("required", ()) if key != "name")],
    }


def _names(names: Sequence[str]) -> Schema:
    # The pattern repeats the enum: the server blames the one thing that is wrong in the likeliest tab, and
    # would blame a good name, which all other tabs refuse, for a wrong parameter beside it.
    pattern = f"^({'|'.join(map(re.escape, names))})$"
    return {"title": "Name", "type": "string", "enum": list(names), "pattern": pattern, "default": names[0]}


def _agreed(schemas: Sequence[Mapping[str, Any]]) -> Schema:
    """What holds for a parameter in each of the variants; the rest is left for the flow to check."""
    first, *others = schemas
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def _descriptions(group: Sequence[Schema], names: Sequence[str]) -> str:
    summaries = [variant.get("description", "") for variant in group]
    if len(group) == 1:
        return str(summaries[0])
    return "; ".join(f"{name}: {summary}" for name, summary in zip(names, summaries, strict=True))
