"""histoflow: a plugin-based workflow engine for histopathology image classification.

This is the plugin author's vocabulary. A plugin module imports from here, builds records, and
returns them from the hooks in ``histoflow.hookspecs``. ``load_model`` is for whoever uses a trained model.
"""

from typing import TYPE_CHECKING, Any

from histoflow.components import (
    ONE_LABEL,
    SPLITS,
    Architecture,
    DataInfo,
    Dataset,
    Facts,
    Loss,
    Metric,
    Optimizer,
    Params,
    Reporter,
    Results,
    Row,
    Samples,
    Scheduler,
    Score,
    Span,
    SplitName,
    Task,
    Transform,
    task_of,
)
from histoflow.errors import DataError, HistoflowError, PluginError, UnreadableImage, UserError
from histoflow.hookspecs import API_VERSION, hookimpl
from histoflow.tunable import tunable

if TYPE_CHECKING:
    from histoflow.bundles.loading import load_model

__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "ONE_LABEL",
    "SPLITS",
    "Architecture",
    "DataError",
    "DataInfo",
    "Dataset",
    "Facts",
    "HistoflowError",
    "Loss",
    "Metric",
    "Optimizer",
    "Params",
    "PluginError",
    "Reporter",
    "Results",
    "Row",
    "Samples",
    "Scheduler",
    "Score",
    "Span",
    "SplitName",
    "Task",
    "Transform",
    "UnreadableImage",
    "UserError",
    "__version__",
    "hookimpl",
    "load_model",
    "task_of",
    "tunable",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for: a list of plugins is there in a moment."""
    if name == "load_model":
        from histoflow.bundles.loading import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
