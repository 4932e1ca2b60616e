"""Which classes are told of an image, and which it shows, where it may be one or several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Labels = NDArray[np.int64]

SHOWN_ABOVE = 0.5
"""An image is told to show a class of several at a higher probability."""


def told(probabilities: Probabilities, labels: Labels) -> NDArray[np.bool_]:
    """Images × classes: which a model tells of each image."""
    if labels.ndim == 2:
        return probabilities > SHOWN_ABOVE
    return _one_of(probabilities.argmax(axis=1), probabilities.shape[1])


def shown(labels: Labels, classes: int) -> NDArray[np.bool_]:
    """Images × classes: which are true of each image."""
    return labels == 1 if labels.ndim == 2 else _one_of(labels, classes)


def _one_of(numbers: Labels, classes: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = numbers[:, None] == np.arange(classes)
    return found
