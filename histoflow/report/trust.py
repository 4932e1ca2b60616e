"""How far its probabilities can be trusted: calibration, operating point, prediction sets."""

from __future__ import annotations

from typing import Any

from histoflow.components import Results


def trust_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    return None
