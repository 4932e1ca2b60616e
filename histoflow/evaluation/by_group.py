"""What a model is worth for whole slides or patients: every metric, with a group in the place of an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow.evaluation import predictions
from histoflow.evaluation.aggregation import Grouped, aggregated, grouped
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.intervals import with_intervals
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.scores import Metrics, checked_split, score_all, to_json

if TYPE_CHECKING:
    from histoflow.experiment import Evaluation


def look(
    settings: Evaluation, metrics: Metrics, kept: Predictions, fitted: Fitted, seed: int
) -> dict[str, Any] | None:
    """The section of metrics.json; None where images have no groups, or nothing is asked."""
    images = _grouped(kept)
    if images is None or not settings.aggregate:
        return None
    return {
        "groups": len(images.names),
        "mixed": images.mixed,
        "smallest": int(images.sizes.min()),
        "largest": int(images.sizes.max()),
        "top_k": settings.top_k,
        "undefined": _why_not(images),
        "by": {way: _scored(metrics, one, seed) for way, one in tables(settings, kept, fitted).items()},
    }


def tables(settings: Evaluation, kept: Predictions, fitted: Fitted) -> dict[str, Predictions]:
    """In each way that is asked for, one row for each group; none where ``look`` has no figures."""
    images = _grouped(kept)
    if images is None or _why_not(images):
        return {}
    probabilities, _ = checked_split(kept.probabilities, kept.labels)
    calibrated = fitted.calibrated(probabilities)
    told = fitted.told(calibrated)
    return {way: aggregated(images, calibrated, told, way, settings.top_k) for way in settings.aggregate}


def save(folder: Path, settings: Evaluation, kept: Predictions, fitted: Fitted) -> None:
    """Each of the tables, as groups_mean.npz and the like."""
    for way, table in tables(settings, kept, fitted).items():
        predictions.save(folder, replace(table, model=kept.model), f"groups_{way}.npz")


def _grouped(kept: Predictions) -> Grouped | None:
    if kept.groups is None:
        return None
    return grouped(kept.labels, kept.groups, kept.probabilities.shape[1])


def _why_not(images: Grouped) -> str:
    if len(images.names) < 2:
        return "all test images are of one group, and one group tells nothing of others"
    if images.sizes.max() == 1:
        return "each group is a single image, so its figures are those of images"
    if images.labels.ndim == 1 and 2 * images.mixed > len(images.names):
        return "most groups hold images of several classes, so that a group has no class of its own"
    return ""


def _scored(metrics: Metrics, table: Predictions, seed: int) -> dict[str, Any]:
    scores = score_all(metrics, table.probabilities, table.labels)
    scores, told = with_intervals(metrics, scores, table.probabilities, table.labels, None, seed=seed)
    return {"scores": to_json(scores, ())["scores"], "intervals": told | {"by": "group"}}
