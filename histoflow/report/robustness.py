"""How the figures suffer from shifted stains, blur, compression, brightness and noise."""

from __future__ import annotations

from typing import Any

from histoflow.components import Results


def robustness_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    return None
