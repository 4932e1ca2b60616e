"""Images that the model is sure or unsure of, where it looked, and a map of all of them."""

from __future__ import annotations

from typing import Any

from histoflow.components import Results


def gallery_content(results: Results) -> dict[str, Any] | None:
    """What the section shows; None where there is nothing to show."""
    return None
