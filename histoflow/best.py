"""Which epoch is the best one, and whether there is a reason to train no further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from histoflow.workshop import Workshop


def best_of(history: Sequence[Mapping[str, Any]], workshop: Workshop) -> dict[str, Any]:
    monitor = workshop.experiment.training.monitored
    epoch = best_epoch(history, monitor, workshop.higher_is_better())
    return {"epoch": epoch, "monitor": monitor, "value": history[epoch - 1][monitor]}


def why_stop(history: Sequence[Mapping[str, Any]], workshop: Workshop) -> str | None:
    """The reason to train no further after these epochs, if there is one."""
    settings = workshop.experiment.training
    if len(history) >= settings.epochs:
        return f"all {settings.epochs} epochs trained"
    if _out_of_patience(history, settings.monitored, settings.patience, workshop.higher_is_better()):
        return f"no better {settings.monitored} for {settings.patience} epochs"
    return None


def best_epoch(history: Sequence[Mapping[str, Any]], monitor: str, higher_is_better: bool) -> int:
    """The first epoch with the best monitored figure; the last one where it was never defined."""
    sign = -1 if higher_is_better else 1
    defined = [(sign * entry[monitor], entry["epoch"]) for entry in history if entry[monitor] is not None]
    return int(min(defined)[1]) if defined else int(history[-1]["epoch"])


def _out_of_patience(
    history: Sequence[Mapping[str, Any]], monitor: str, patience: int | None, higher_is_better: bool
) -> bool:
    if patience is None or not history:
        return False
    return len(history) - best_epoch(history, monitor, higher_is_better) >= patience
