"""What a model is worth: scores of a whole split, and the curves behind them."""

from histoflow.evaluation.curves import RocCurve, class_counts, confusion_matrix, roc_curve, roc_curves
from histoflow.evaluation.scores import Metrics, checked_split, from_json, score_all, to_json

__all__ = [
    "Metrics",
    "RocCurve",
    "checked_split",
    "class_counts",
    "confusion_matrix",
    "from_json",
    "roc_curve",
    "roc_curves",
    "score_all",
    "to_json",
]
