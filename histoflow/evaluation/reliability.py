"""Whether probabilities mean what they say: in bins of like probability, the share that is right.

A bin holds the likeliest class of each image; where images have several labels, every pair of an image and a
class. The bins are those of the expected calibration error, which is the mean distance of the two over all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 15
"""As the metric ece has them if it is not told otherwise."""


class Bin(TypedDict):
    above: float
    """Its lower end; the upper one belongs to it."""
    to: float
    count: int
    told: float
    """The mean probability."""
    right: float
    """The share that is true."""


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> list[Bin]:
    """The bins that hold anything."""
    if labels.ndim == 2:
        sure, true = probabilities.ravel(), labels.ravel() == 1
    else:
        sure, true = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts, told, right = (np.bincount(places, one, BINS) for one in (np.ones_like(sure), sure, true))
    return [
        Bin(
            above=place / BINS,
            to=(place + 1) / BINS,
            count=int(counts[place]),
            told=float(told[place] / counts[place]),
            right=float(right[place] / counts[place]),
        )
        for place in np.flatnonzero(counts).tolist()
    ]
