"""Images that were left out, counted by reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_EXAMPLES = 3


@dataclass(frozen=True)
class Reason:
    """Why images were left out, how many, and some of them."""

    reason: str
    images: int
    examples: tuple[str, ...]


def by_reason(images: Iterable[tuple[str, str]]) -> list[Reason]:
    """From source and reason of each; reasons that differ in numbers alone are one. The commonest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for source, reason in images:
        found.setdefault(re.sub(r"\d[\d,.]*(?<=\d)", "…", reason), []).append((source, reason))
    reasons = [
        Reason(
            reason=members[0][1] if len({reason for _, reason in members}) == 1 else alike,
            images=len(members),
            examples=tuple(source for source, _ in members[:_EXAMPLES]),
        )
        for alike, members in found.items()
    ]
    return sorted(reasons, key=lambda one: -one.images)
