"""What a check hands back: a finding, and which images would have to go."""

from __future__ import annotations

from dataclasses import dataclass

from histoflow.data.audit.finding import Finding


@dataclass(frozen=True)
class Answer:
    """A finding, and the images to leave out where the policy for its ``setting`` is to drop."""

    finding: Finding
    drop: tuple[int, ...] = ()
    """Positions in ``Examined``, ascending."""
    why: str = ""
    """The reason that quarantine gives for each of them."""
