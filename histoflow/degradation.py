"""How a model's test figures suffer from what other scanners and laboratories do to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from histoflow.data.store import SplitReader
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.workshop import Workshop


def look(
    workshop: Workshop,
    model: nn.Module,
    test: SplitReader,
    kept: Predictions,
    fitted: Fitted,
    folder: Path,
) -> dict[str, Any] | None:
    return None
