"""What is told of a model beside its scores: calibration, operating point, prediction sets, groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.scores import Metrics

if TYPE_CHECKING:
    from histoflow.experiment import Experiment


def look(
    experiment: Experiment, metrics: Metrics, kept: Predictions, validation: Predictions, fitted: Fitted
) -> dict[str, Any]:
    """Sections of metrics.json."""
    return {"calibration": None, "operating": None, "sets": None, "aggregated": None}
