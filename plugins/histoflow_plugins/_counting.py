"""What metrics are computed from: counts of predictions and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from histoflow import Params
from histoflow_plugins._wording import Figures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]


class AverageParams(Params):
    average: Literal["auto", "macro", "weighted"] = "auto"
    """The overall figure: macro is the plain mean over classes, weighted counts each class by its images,
    auto is that of the positive class (class 1) where an image is of one of two classes, else macro."""


THRESHOLD = 0.5
"""Above it an image is said to show a class, where it may show several."""


@dataclass(frozen=True)
class Counts:
    """For each class, how many images are rightly given to it, are given to it, and belong to it."""

    hits: Sequence[int]
    predicted: Sequence[int]
    actual: Sequence[int]
    images: int
    one_label: bool
    """Whether each image belongs to one class, and to no other."""

    @property
    def seen(self) -> list[int]:
        """The classes that occur among labels or predictions, over which averages are taken.

        So does scikit-learn where images have one label; of several it counts a class with neither as 0.
        """
        pairs = zip(self.predicted, self.actual, strict=True)
        return [index for index, (predicted, actual) in enumerate(pairs) if predicted + actual]


def count(probabilities: Probabilities, labels: Labels) -> Counts:
    import numpy as np

    if labels.ndim == 2:
        return _of_several(probabilities, labels)
    classes = probabilities.shape[1]
    predictions = probabilities.argmax(axis=1)
    hits = np.bincount(labels[predictions == labels], minlength=classes)
    predicted = np.bincount(predictions, minlength=classes)
    actual = np.bincount(labels, minlength=classes)
    return Counts(hits.tolist(), predicted.tolist(), actual.tolist(), len(labels), one_label=True)


def _of_several(probabilities: Probabilities, labels: Labels) -> Counts:
    predictions, shown = probabilities > THRESHOLD, labels == 1
    hits, predicted, actual = (
        found.sum(axis=0).tolist() for found in (predictions & shown, predictions, shown)
    )
    return Counts(hits, predicted, actual, len(labels), one_label=False)


def ratios(parts: Iterable[int], wholes: Iterable[int]) -> Figures:
    return tuple(part / whole if whole else None for part, whole in zip(parts, wholes, strict=True))
