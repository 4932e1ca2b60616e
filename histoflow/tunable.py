"""How the author of a component says which of its parameters are worth tuning, and between which values."""

from __future__ import annotations

from typing import Any

KEY = "tune"
"""Where the mark stands in the field's JSON schema."""


def tunable(
    *choices: Any,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    step: float | None = None,
) -> dict[str, Any]:
    """For a field's ``json_schema_extra``: ``histoflow tune`` searches this parameter without being asked.

    ``Field(1e-3, gt=0, json_schema_extra=tunable(low=1e-5, high=1e-2, log=True))`` searches a range,
    ``tunable(18, 34)`` these values, and ``tunable()`` whatever the field's own type and bounds allow.
    """
    if choices:
        return {KEY: {"choices": list(choices)}}
    if low is None and high is None:
        return {KEY: "auto"}
    steps = {} if step is None else {"step": step}
    return {KEY: {"low": low, "high": high, "log": log, **steps}}
