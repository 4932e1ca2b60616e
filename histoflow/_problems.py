"""Turns pydantic's errors into problems a person can act on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from histoflow.errors import Problem

Place = tuple[str | int, ...]
"""The way to a value in nested data."""


def problems_of(
    error: ValidationError, data: Any, legal_keys: Callable[[Place], Iterable[str]]
) -> list[Problem]:
    """One problem per place: a union's alternatives that all failed become one message.

    ``legal_keys`` tells which keys could have stood beside the last one of a place.
    """
    details = [(_place(detail["loc"], data), detail) for detail in error.errors()]
    return [
        Problem(
            ".".join(map(str, place)) or "experiment",
            _message(place, [detail for _, detail in group], data, legal_keys),
        )
        for place, group in groupby(details, key=lambda pair: pair[0])
    ]


def _place(location: Sequence[str | int], data: Any) -> Place:
    """The path in what the user wrote: pydantic's also names the union members it tried."""
    place: list[str | int] = []
    for step in location:
        if isinstance(data, Mapping):
            if step not in data and data.get("name") == step:
                continue  # the tag of a discriminated union
            place.append(step)
            data = data.get(step)
        elif isinstance(data, Sequence) and not isinstance(data, str) and isinstance(step, int):
            place.append(step)
            data = data[step] if step < len(data) else None
        elif not place:
            place.append(step)
    return tuple(place)


def _message(
    place: Place,
    details: Sequence[ErrorDetails],
    data: Any,
    legal_keys: Callable[[Place], Iterable[str]],
) -> str:
    first = details[0]
    if first["type"] == "extra_forbidden":
        return _unknown_key(place, data, legal_keys(place))
    if first["type"] == "missing":
        return "is required."
    if first["type"] == "invalid_key":
        return f"keys must be text. Got {place[-1]!r}."
    if first["type"] == "value_error":
        text = str(first["ctx"]["error"])
        return text if text.endswith((".", "?")) else f"{text}."
    allowed = " or ".join(dict.fromkeys(_requirement(detail) for detail in details))
    return f"{_subject(place, data)}must be {allowed}. Got {first['input']!r}."


def _subject(place: Place, data: Any) -> str:
    owner = _owner(place, data)
    if len(place) > 1 and isinstance(owner, Mapping) and isinstance(owner.get("name"), str):
        return f"the '{place[-1]}' parameter of '{owner['name']}' "
    return ""


def _owner(place: Place, data: Any) -> Any:
    for step in place[:-1]:
        data = data[step]
    return data


_REQUIREMENTS = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "finite_number": "a finite number",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "set": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "path": "a path",
}


def _requirement(detail: ErrorDetails) -> str:
    """What the value must be, by the type of pydantic's error; its own words where we have none."""
    kind = detail["type"]
    if kind in _REQUIREMENTS:
        facts = {
            key: f"{value:g}" if isinstance(value, float) else value
            for key, value in detail.get("ctx", {}).items()
        }
        return _REQUIREMENTS[kind].format(**facts)
    beginning = kind.split("_")[0]
    if beginning in _KINDS and kind.endswith(("_type", "_parsing", "_from_float", "_parsing_size")):
        return _KINDS[beginning]
    return detail["msg"].removeprefix("Input should be ")


def _plain(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else value


def _unknown_key(place: Place, data: Any, legal: Iterable[str]) -> str:
    known = list(legal)
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    owner = _owner(place, data)
    whose = f" of '{owner['name']}'" if len(place) > 1 and "name" in owner else ""
    return f"'{place[-1]}' is not a parameter{whose}; there are {', '.join(known) or 'none'}.{hint}"
