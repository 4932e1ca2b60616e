"""What a check of the audit says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["ok", "note", "warning", "refused"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one question about the data, in words and in figures."""

    check: str
    """Which question was asked, such as ``near_duplicates``."""
    message: str
    advice: str = ""
    """What to do about it; empty where there is nothing, or it has been done."""
    severity: Severity = "warning"
    """``ok``: asked and nothing found; ``note``: worth knowing; ``refused``: training must not begin."""
    setting: str = ""
    """The field of the experiment's ``audit`` that says what is done about it."""
    images: int = 0
    """How many images are concerned."""
    examples: tuple[str, ...] = ()
    """The sources of some of them."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Plain data for tables and plots."""
