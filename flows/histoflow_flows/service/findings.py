"""What the doctor has to say about one thing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    check: str
    """What was looked at."""
    status: Status
    told: str
    """What was found."""
    advice: str = ""
    """What to do about it."""

    def to_data(self) -> dict[str, str]:
        return asdict(self)
