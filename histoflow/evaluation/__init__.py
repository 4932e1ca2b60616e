"""What a model is worth: scores of a whole split, and the curves behind them."""

from histoflow.evaluation.curves import (
    PrecisionRecallCurve,
    RocCurve,
    class_counts,
    confusion_matrix,
    precision_recall_curve,
    precision_recall_curves,
    roc_curve,
    roc_curves,
)
from histoflow.evaluation.scores import Metrics, checked_split, from_json, score_all, to_json

__all__ = [
    "Metrics",
    "PrecisionRecallCurve",
    "RocCurve",
    "checked_split",
    "class_counts",
    "confusion_matrix",
    "from_json",
    "precision_recall_curve",
    "precision_recall_curves",
    "roc_curve",
    "roc_curves",
    "score_all",
    "to_json",
]
