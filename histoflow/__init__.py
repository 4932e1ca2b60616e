"""histoflow: a plugin-based workflow engine for histopathology image classification.

This is the plugin author's vocabulary. A plugin module imports from here, builds records, and
returns them from the hooks in ``histoflow.hookspecs``.
"""

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
    "task_of",
    "tunable",
]
