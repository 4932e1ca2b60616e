"""Counts and means of many resamples at once: rows are resamples, NaN is what has no figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histoflow import Score
from histoflow_plugins._counting import THRESHOLD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]
    Weights = NDArray[np.float32]

_EXACT = 1 << 24
"""Up to here sums of whole numbers are exact in float32."""


@dataclass(frozen=True, eq=False)
class Counts:
    """For each resample and class; ``images`` for each resample."""

    hits: Floats
    predicted: Floats
    actual: Floats
    images: Floats
    one_label: bool


def count(probabilities: Floats, labels: Labels, weights: Weights) -> Counts:
    import numpy as np

    if labels.ndim == 2:
        given, shown = probabilities > THRESHOLD, labels == 1
    else:
        classes = np.arange(probabilities.shape[1])
        given = probabilities.argmax(axis=1)[:, None] == classes
        shown = labels[:, None] == classes
    (hits, predicted, actual), images = sums(weights, [given & shown, given, shown])
    return Counts(hits, predicted, actual, images, one_label=labels.ndim == 1)


def sums(weights: Weights, marks: Sequence[NDArray[Any]]) -> tuple[list[Floats], Floats]:
    """What whole numbers (images × marks) come to in each resample, and how many images it has."""
    import numpy as np

    images, columns = totals(weights), np.hstack(marks)
    exact = exact_type(images, largest=int(columns.max(initial=1)))
    found = weights.astype(exact, copy=False) @ columns.astype(exact)
    ends = np.cumsum([mark.shape[1] for mark in marks])[:-1]
    return np.split(found.astype(np.float64), ends, axis=1), images


def totals(weights: Weights) -> Floats:
    """How many images each resample has."""
    import numpy as np

    found = weights.sum(axis=1)
    if found.max(initial=0) >= _EXACT / 2:  # below, no sum on the way there was rounded
        found = weights.sum(axis=1, dtype=np.float64)
    return np.asarray(found, np.float64)


def exact_type(images: Floats, largest: int = 1) -> type[np.float32 | np.float64]:
    """In which sums over resamples of so many images are exact, of whole numbers up to the largest."""
    import numpy as np

    return np.float32 if images.max(initial=0) * largest < _EXACT else np.float64


def once(labels: Labels) -> Weights:
    """The split itself, as its only resample."""
    import numpy as np

    return np.ones((1, len(labels)), np.float32)


def told(figures: Floats, undefined: str) -> Score:
    """What the only resample says."""
    import numpy as np

    value, *per_class = (None if np.isnan(figure) else float(figure) for figure in figures[0])
    return Score(value=value, per_class=tuple(per_class), undefined=undefined)


def mean_of_known(figures: Floats) -> Floats:
    import numpy as np

    known = ~np.isnan(figures)
    return divide(np.where(known, figures, 0.0).sum(axis=1), known.sum(axis=1))


def divide(parts: Floats, wholes: NDArray[np.float64 | np.int64]) -> Floats:
    """NaN where there is nothing to divide by."""
    import numpy as np

    shape = np.broadcast_shapes(parts.shape, wholes.shape)
    quotients: Floats = np.full(shape, np.nan)
    return np.divide(parts, wholes, out=quotients, where=np.broadcast_to(wholes != 0, shape))


def beside(overall: Floats, per_class: Floats) -> Floats:
    import numpy as np

    return np.column_stack([overall, per_class])
