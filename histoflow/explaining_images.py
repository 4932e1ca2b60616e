"""Which images the report shows, where the network looked on them, and how it sees them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from histoflow.data.store import PackedStore, SplitReader
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.workshop import Workshop


def look(
    workshop: Workshop,
    model: nn.Module,
    store: PackedStore,
    test: SplitReader,
    kept: Predictions,
    fitted: Fitted,
    folder: Path,
) -> dict[str, Any] | None:
    return None
