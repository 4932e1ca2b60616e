"""What the report of a tuning is told: plain records, so that it can be drawn without a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

TrialState = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial."""

    number: int
    state: TrialState
    point: Mapping[str, Any]
    """The value of each dimension that was in play."""
    label: str = ""
    """The same in one short line."""
    values: tuple[float, ...] = ()
    """One for each objective; none for a trial that failed."""
    epochs: int | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One dimension of the space."""

    name: str
    choices: tuple[Any, ...] | None = None
    """What can be chosen; None for a range."""
    low: float = 0.0
    high: float = 1.0
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """A run of the best configuration on all data."""

    run: str
    state: str
    scores: Mapping[str, float | None]
    """The test figures, where it has been evaluated."""


@dataclass(frozen=True, kw_only=True)
class TuningResults:
    """A study, as the page sees it."""

    folder: Path
    study: str
    name: str
    created: str
    search: Mapping[str, Any]
    objectives: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    axes: tuple[Axis, ...]
    trials: tuple[Tried, ...]
    best: int | None = None
    """The number of the trial that was chosen."""
    front: frozenset[int] = frozenset()
    """With several objectives: the trials that no other beats in all of them."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The best experiment."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """The share that each dimension has in what makes trials good; empty where too few were trained."""
    retrained: tuple[Retrained, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
