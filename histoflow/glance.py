"""What one look at a training tells: where it is, how it goes, how long it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from histoflow import progress
from histoflow.engine.fit import Position, Validate, Values

EVERY = 1.0
"""Seconds between two looks. Each waits for the device once."""
_RECENT = 3
"""Epochs whose time tells how long the next ones take."""
_ENOUGH_TO_TELL = 0.02
"""The share of the first epoch from which on the time of the others can be told."""
_NOW = ("step", "now")
"""What is told of the very moment."""


@dataclass
class Glance:
    """Tells the figures of a training to whoever shows progress."""

    epochs: int
    steps: int
    """In an epoch."""
    shown: Sequence[str]
    """Those figures of an epoch that are told."""
    monitor: str
    device: torch.device
    due: float = 0.0
    """When the next look is, by ``time.monotonic``."""
    _validated: dict[str, str] = field(default_factory=dict)
    _epoch_takes: float | None = None
    _told: progress.Figures = field(default_factory=dict)

    def at(self, position: Position) -> None:
        """Tell how it goes at this place in an epoch."""
        self.due = time.monotonic() + EVERY
        loss = {"loss": _figure(position.loss / position.images)} if position.images else {}
        self._tell(
            {
                "step": progress.amount(position.step, self.steps),
                **loss,
                **self._time_left(position),
                "GPU memory" if self.device.type == "cuda" else "memory": _memory(self.device),
                **self._validated,
            }
        )

    def after(self, history: Sequence[Mapping[str, Any]], best: int) -> None:
        """Note what the epochs came to; ``best`` is the number of the best one."""
        names = [*(name for name in self.shown if name != self.monitor), self.monitor]
        values = {name: history[-1][name] for name in names}
        self._validated = {name: _figure(value) for name, value in values.items() if value is not None}
        value = history[best - 1][self.monitor]
        if value is not None:
            self._validated["best"] = f"{_figure(value)} in epoch {best}"
        recent = [entry["seconds"] + entry["validation_seconds"] for entry in history[-_RECENT:]]
        self._epoch_takes = sum(recent) / len(recent)
        self.due = 0.0

    def validating(self, validate: Validate) -> Validate:
        """The same, telling that it is under way."""

        def told(model: nn.Module) -> Values | None:
            stays = {name: value for name, value in self._told.items() if name not in _NOW}
            self._tell({"now": "validating", **stays})
            return validate(model)

        return told

    def over(self) -> None:
        progress.tell({})

    def _tell(self, figures: progress.Figures) -> None:
        self._told = figures
        progress.tell(figures)

    def _time_left(self, position: Position) -> dict[str, str]:
        """Until the last epoch's end; in the first one, from the share of it that is done."""
        share = position.step / self.steps
        takes = self._epoch_takes
        if takes is None:
            if share < _ENOUGH_TO_TELL:
                return {}
            takes = position.seconds / share
        left = takes * (self.epochs - position.epoch + 1 - share)
        return {"training": f"{progress.duration(left)} left"}


def _figure(value: float) -> str:
    return f"{value:#.3g}"


def _memory(device: torch.device) -> str:
    """Of the GPU, what all its users hold together; of the host, what this process does."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{(total - free) / 1e9:.1f} of {total / 1e9:.0f} GB"
    import psutil

    return f"{psutil.Process().memory_info().rss / 1e9:.1f} GB"
