"""What prediction sets are worth: how often they hold the true class, and how much they leave open.

A model abstains on an image whose set holds several classes, or none: both say that it cannot decide. The
figures of a class are of the images that are of it (that show it, where images have several labels; no model
abstains there, as several classes may be true).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histoflow.evaluation.answers import shown
from histoflow.evaluation.rates import Rate, with_overall

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NONE_OF_IT = "no image is of it"


def rates_of_sets(sets: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Rate]:
    """``sets`` says, images × classes, which belong to each image's set."""
    true = shown(labels, sets.shape[1])
    sizes = sets.sum(axis=1)
    rates = {
        "coverage": Rate(with_overall(sets & true), with_overall(true), _NONE_OF_IT),
        "size": Rate(_of_images(sizes, true), _of_images(np.ones_like(sizes), true), _NONE_OF_IT),
    }
    return rates if labels.ndim == 2 else rates | _of_decisions(sets, sizes == 1, true)


def _of_decisions(
    sets: NDArray[np.bool_], decided: NDArray[np.bool_], true: NDArray[np.bool_]
) -> dict[str, Rate]:
    right = (sets & true).any(axis=1) & decided
    every = np.ones_like(decided)
    return {
        "abstained": Rate(_of_images(~decided, true), _of_images(every, true), _NONE_OF_IT),
        "accuracy_if_decided": Rate(
            _of_images(right, true), _of_images(decided, true), "the model abstains on each of its images"
        ),
    }


def _of_images(counted: NDArray[np.int64] | NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The count of each image, for all and for each class that it is of."""
    return np.column_stack((counted, counted[:, None] * true)).astype(np.int64)
