"""The metrics that are told of every model, whichever its experiment names: by name, from the plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histoflow import registry as plugins
from histoflow.components import Metric

if TYPE_CHECKING:
    from histoflow.evaluation.scores import Metrics
    from histoflow.registry import Registry

OF_PROBABILITIES = ("brier", "log_loss", "ece")
"""Whether probabilities mean what they say; all images count in them alike."""
OF_CLASSES = ("recall",)


def chosen(names: tuple[str, ...], registry: Registry | None = None) -> Metrics:
    """With their default parameters; of the plugins installed, unless a registry is given."""
    metrics = {name: (registry or plugins.installed()).get(Metric, name) for name in names}
    return {name: (metric, metric.params()) for name, metric in metrics.items()}
