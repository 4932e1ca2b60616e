"""From images to the slides or patients that they are of: one row of probabilities for each group.

    mean     the mean of its images' probabilities
    max      of each class, the highest of its images' probabilities
    top_k    of each class, the mean of its k highest
    vote     the share of its images that are told to be of each class

Of two classes, ``max`` and ``top_k`` look at the second, and the first has the rest; of more, the rows are
made to sum to 1. A group is of the class that most of its images are of, in a tie the first. Where images
have several labels, each class stands by itself, and a group shows what any of its images does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from histoflow.errors import DataError
from histoflow.evaluation.answers import shown
from histoflow.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

Way = Literal["mean", "max", "top_k", "vote"]


@dataclass(frozen=True, eq=False)
class Grouped:
    """Images sorted by their group."""

    names: NDArray[np.str_]
    order: NDArray[np.int64]
    """Images, those of the first group first."""
    starts: NDArray[np.int64]
    """Where in ``order`` each group begins."""
    labels: NDArray[np.int64]
    """Of each group."""
    mixed: int
    """Groups whose images are of several classes, where an image has one label."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.diff(np.append(self.starts, len(self.order)))


def grouped(labels: NDArray[np.int64], groups: NDArray[Any], classes: int) -> Grouped:
    if len(groups) != len(labels):
        raise DataError(f"There must be one group for each of {len(labels)} images. Got {len(groups)}.")
    names, of_image = np.unique(groups, return_inverse=True)
    order = np.argsort(of_image, kind="stable")
    starts = np.searchsorted(of_image[order], np.arange(len(names)))
    counts = np.add.reduceat(shown(labels, classes)[order].astype(np.int64), starts, axis=0)
    if labels.ndim == 2:
        return Grouped(names, order, starts, (counts > 0).astype(np.int64), mixed=0)
    mixed = int(((counts > 0).sum(axis=1) > 1).sum())
    return Grouped(names, order, starts, counts.argmax(axis=1), mixed)


def aggregated(
    images: Grouped, calibrated: NDArray[np.float64], told: NDArray[np.int64], way: Way, top_k: int
) -> Predictions:
    """One row for each group; the sources are the groups' names. ``told`` is as ``Fitted.told`` has it."""
    several = images.labels.ndim == 2
    if way == "mean":
        rows = _means(images, calibrated)
    elif way == "vote":
        rows = _means(images, told if several else shown(told, calibrated.shape[1]))
    else:
        highest = _highest(images, calibrated, 1 if way == "max" else top_k)
        rows = highest if several else _summing_to_one(highest)
    return Predictions(probabilities=rows, labels=images.labels, sources=images.names)


def _means(images: Grouped, values: NDArray[Any]) -> NDArray[np.float64]:
    sums = np.add.reduceat(values[images.order].astype(np.float64), images.starts, axis=0)
    return np.asarray(sums / images.sizes[:, None])


def _highest(images: Grouped, calibrated: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of each class, the mean of a group's highest probabilities, of all where it has fewer images."""
    parts = np.split(calibrated[images.order], images.starts[1:])
    return np.stack([np.sort(part, axis=0)[-count:].mean(axis=0) for part in parts])


def _summing_to_one(highest: NDArray[np.float64]) -> NDArray[np.float64]:
    if highest.shape[1] == 2:
        return np.column_stack((1 - highest[:, 1], highest[:, 1]))
    return np.asarray(highest / highest.sum(axis=1, keepdims=True))
