"""The names of classes: those that a user gives, and the order of those that data bring."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"must name each class once. Got {', '.join(twice)} more than once.")
    return names


ClassNames = Annotated[tuple[str, ...], AfterValidator(_each_once)]


def numbered(names: Collection[str]) -> list[str]:
    """Each once; numbers in the order of their values, else alphabetically."""
    return sorted(set(names), key=_by_value) if all(map(_is_number, names)) else sorted(set(names))


def _by_value(name: str) -> tuple[float, str]:
    return float(name), name


def _is_number(name: str) -> bool:
    try:
        return float(name) == float(name)
    except ValueError:
        return False
