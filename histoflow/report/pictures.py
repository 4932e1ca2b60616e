"""The report's figures as the page shows them: an address, a text for who cannot see it, a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from histoflow.evaluation.curves import RocCurve, precision_recall_curves, roc_curves
from histoflow.report import figures, wording
from histoflow.report.style import data_uri
from histoflow.report.tables import title

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_PIXELS_PER_INCH = 96
Curve = TypeVar("Curve")


@dataclass(frozen=True)
class Picture:
    source: str
    alt: str
    caption: str
    width: int
    height: int


def training_pictures(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[Picture]:
    """Losses, and metrics if there are any; none without a history."""
    if not history:
        return []
    pictures = [
        picture(figures.loss_curves(history, best_epoch), _loss_alt(history), "Loss after each epoch")
    ]
    if figures.drawn_metrics(history):
        figure = figures.metric_curves(history, best_epoch)
        pictures.append(picture(figure, _metrics_alt(history), "Validation metrics after each epoch"))
    return pictures


def confusion_picture(matrix: NDArray[np.int64], classes: Sequence[str]) -> Picture:
    caption = (
        "Each row holds the images of one class: the share and the number given to each class. "
        "The diagonal is right."
    )
    return picture(figures.confusion_heatmap(matrix, classes), _confusion_alt(matrix, classes), caption)


def roc_picture(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Picture | None:
    """One curve per class, only the positive one's where there are two; None where nothing is defined."""
    curves = _shown(roc_curves(labels, probabilities), labels, classes)
    if not curves:
        return None
    caption = f"True against false positives over all thresholds{_against(labels, classes)}"
    return picture(figures.roc_chart(curves), _roc_alt(curves), caption)


def precision_recall_picture(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
) -> Picture | None:
    """The same of precision and recall, which tell more where a class is rare."""
    curves = _shown(precision_recall_curves(labels, probabilities), labels, classes)
    if not curves:
        return None
    areas = ", ".join(f"{name} {curve.area:.3f}" for name, curve in curves.items())
    caption = (
        f"Precision against recall over all thresholds{_against(labels, classes)}. Pale lines: what guessing "
        f"comes to"
    )
    alt = f"Precision-recall curves. Average precision: {areas}."
    return picture(figures.precision_recall_chart(curves), alt, caption)


def _shown(
    curves: Sequence[Curve | None], labels: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Curve]:
    first = 1 if _one_of_two(labels, classes) else 0
    named = list(zip(classes, curves, strict=True))[first:]
    return {name: curve for name, curve in named if curve is not None}


def _one_of_two(labels: NDArray[np.int64], classes: Sequence[str]) -> bool:
    return len(classes) == 2 and labels.ndim == 1


def _against(labels: NDArray[np.int64], classes: Sequence[str]) -> str:
    if _one_of_two(labels, classes):
        return f"; {classes[1]} is the positive class"
    rest = "the rest" if labels.ndim == 1 else "the images that do not show it"
    return f", each class against {rest}"


def picture(figure: Figure, alt: str, caption: str) -> Picture:
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    return Picture(source=data_uri(figure), alt=alt, caption=caption, width=width, height=height)


def _loss_alt(history: Sequence[Mapping[str, Any]]) -> str:
    last = history[-1]
    ends = [
        f"{name} loss {wording.figure(last[key])}"
        for key, name in (("train_loss", "training"), ("val_loss", "validation"))
        if last.get(key) is not None
    ]
    return (
        f"Line chart of the loss over {wording.count(len(history), 'epoch', 'epochs')}. {_at_the_end(ends)}"
    )


def _metrics_alt(history: Sequence[Mapping[str, Any]]) -> str:
    ends = [
        f"{title(key)} {wording.figure(value)}"
        for key in figures.drawn_metrics(history)
        if (value := history[-1].get(key)) is not None
    ]
    return f"Line chart of the validation metrics over {_epochs(history)}. {_at_the_end(ends)}"


def _epochs(history: Sequence[Mapping[str, Any]]) -> str:
    return wording.count(len(history), "epoch", "epochs")


def _at_the_end(ends: Sequence[str]) -> str:
    return f"After the last: {', '.join(ends)}." if ends else ""


def _confusion_alt(matrix: NDArray[np.int64], classes: Sequence[str]) -> str:
    total, right = int(matrix.sum()), int(np.trace(matrix))
    alt = f"Confusion matrix of {len(classes)} classes. {right:,} of {total:,} images are right."
    wrong = matrix - np.diag(np.diag(matrix))
    actual, predicted = (int(place) for place in np.unravel_index(wrong.argmax(), wrong.shape))
    if count := int(wrong[actual, predicted]):
        alt += f" The commonest mistake: {classes[actual]} taken for {classes[predicted]}, {count:,}."
    return alt


def _roc_alt(curves: Mapping[str, RocCurve]) -> str:
    areas = ", ".join(f"{name} {curve.area:.3f}" for name, curve in curves.items())
    return f"ROC curves. Area under the curve: {areas}."
