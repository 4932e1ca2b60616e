"""One entry of a search space: what may be written, and the range or the options that it means."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from histoflow.tuning.space import Label, Options, Range

FORMS = "a list of choices, {low: …, high: …}, auto or fixed"
_RANGE_KEYS = {"low", "high", "log", "step"}
_DECADES = 100.0
"""A range whose end is so many times its beginning is searched by orders of magnitude."""


class BadSpec(Exception):
    """What is wrong with an entry, in words that go on after its path."""


def is_searched(value: Any) -> bool:
    """Whether a parameter inside a choice is to be searched, and is not a plain value."""
    return isinstance(value, Mapping) and ({"low", "high"} <= set(value) or set(value) == {"choices"})


def domain_of(spec: Any, schema: Mapping[str, Any]) -> Range | Options:
    """What the entry means for a field of this JSON schema; an unknown field's schema is empty."""
    if spec == "auto":
        spec = _by_itself(schema)
    if isinstance(spec, Mapping) and set(spec) == {"choices"}:
        spec = spec["choices"]
    if isinstance(spec, list) and spec:
        return Options(labels_of(spec), tuple(spec))
    if isinstance(spec, Mapping) and {"low", "high"} <= set(spec) <= _RANGE_KEYS:
        return _range(spec, schema)
    raise BadSpec(f"must be {FORMS}. Got {shown(spec)}.")


def labels_of(values: Sequence[Any]) -> tuple[Label, ...]:
    """Plain values are their own labels, components go by their name where that tells them apart."""
    names = [value["name"] if isinstance(value, Mapping) and "name" in value else None for value in values]
    labels = tuple(_label(value, names.count(name) == 1) for value, name in zip(values, names, strict=True))
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise BadSpec(f"lists {shown(label)} twice.")
    return labels


def _label(value: Any, name_is_enough: bool) -> Label:
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, Mapping) and "name" in value:
        rest = [f"{key}={shown(item)}" for key, item in value.items() if key != "name"]
        return str(value["name"]) if name_is_enough else " ".join([str(value["name"]), *rest])
    return shown(value)


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _range(spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Range:
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    for name, value in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadSpec(f"must have a number for '{name}'. Got {shown(value)}.")
    if low >= high:
        raise BadSpec(f"must have a low below its high. Got {low:g} and {high:g}.")
    if log not in (True, False) or (log and (low <= 0 or step is not None)):
        raise BadSpec("must have log true or false; true needs a low above 0 and no step.")
    if step is not None and step <= 0:
        raise BadSpec(f"must have a step above 0. Got {step:g}.")
    whole = _is_whole(schema, (low, high, step))
    if whole and any(value != int(value) for value in (low, high, step or 1)):
        raise BadSpec("must have whole numbers for low, high and step, as the setting itself is one.")
    return Range(low=low, high=high, log=bool(log), step=step, whole=whole)


def _is_whole(schema: Mapping[str, Any], numbers: Sequence[Any]) -> bool:
    types = {option.get("type") for option in (schema, *schema.get("anyOf", ()))}
    if "number" in types or "integer" in types:
        return "number" not in types
    return all(number is None or isinstance(number, int) for number in numbers)


def _by_itself(schema: Mapping[str, Any]) -> Any:
    """The entry that a field's own type and bounds make."""
    if "enum" in schema:
        return list(schema["enum"])
    if schema.get("type") == "boolean":
        return [False, True]
    low, high = _bound(schema, "minimum", +1), _bound(schema, "maximum", -1)
    if low is None or high is None or low >= high:
        raise BadSpec("cannot be auto, for it is not bounded on both sides. Give {low: …, high: …}.")
    if low <= 0 and "exclusiveMinimum" in schema:
        return _around_default(schema, high)
    return {"low": low, "high": high, "log": low > 0 and high / low >= _DECADES}


def _bound(schema: Mapping[str, Any], name: str, inwards: int) -> float | None:
    if name in schema:
        return float(schema[name]) if schema["type"] != "integer" else schema[name]
    excluded = schema.get(f"exclusive{name.capitalize()}")
    if excluded is None:
        return None
    if schema.get("type") == "integer":
        return int(excluded) + inwards
    return float(excluded) if name == "minimum" and excluded == 0 else float(excluded) + inwards * 1e-3


def _around_default(schema: Mapping[str, Any], high: float) -> dict[str, Any]:
    """A positive number has no natural least one: two orders of magnitude to each side of its default."""
    default = schema.get("default")
    if not isinstance(default, int | float) or default <= 0:
        raise BadSpec("cannot be auto, for it may be as near to 0 as you like. Give {low: …, high: …}.")
    return {"low": default / _DECADES, "high": min(default * _DECADES, high), "log": True}
