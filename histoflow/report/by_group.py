"""Figures of whole slides and patients, put together from their images."""

from __future__ import annotations

from typing import Any

from histoflow.components import Results


def by_group_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    return None
