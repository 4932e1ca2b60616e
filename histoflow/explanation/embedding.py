"""The map of images as a network sees them, and the file that keeps it: embedding.npz in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from histoflow.components import SPLITS, SplitName
from histoflow.errors import ExplanationError
from histoflow.evaluation import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "embedding.npz"
MOST = 2000
"""Images of each split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """The content of embedding.npz: one entry for each image, split after split."""

    points: NDArray[np.float32]
    """N×2."""
    explained: NDArray[np.float64]
    """Which share of the features' variance each of the two axes holds."""
    splits: NDArray[np.int64]
    """Its place in ``SPLITS``."""
    indices: NDArray[np.int64]
    """Where in its split each image stands."""
    labels: NDArray[np.int64]
    """The number of its class; in ``multilabel`` tasks images × classes of 0 and 1."""
    groups: NDArray[np.str_]
    """Empty where the data name none."""
    model: str = ""
    """The hash of the weights."""

    def of(self, split: SplitName) -> NDArray[np.bool_]:
        return np.asarray(self.splits == SPLITS.index(split))


def subset(labels: NDArray[np.integer], most: int = MOST) -> NDArray[np.int64]:
    """Where the images stand that are taken: each class has the share that it has of all."""
    if len(labels) <= most:
        return np.arange(len(labels))
    kinds = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    by_kind = np.argsort(kinds, kind="stable")
    return np.sort(by_kind[np.arange(most) * len(labels) // most])


def plane_of(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The two directions in which the features differ most (PCA), and their shares of all variance."""
    if not np.isfinite(features).all():
        raise ExplanationError(
            "Some features of the network are not finite numbers, so there is no map of them."
        )
    spread = features.std(axis=0) > 0
    if spread.sum() < 2 or len(features) < 3:
        raise ExplanationError(
            f"A map needs three images and two features that differ between them. Got {len(features)} images "
            f"and {int(spread.sum())} such features."
        )
    # In numpy, as scikit-learn takes a second to import, in every process that evaluates a model.
    centred = features - features.mean(axis=0, dtype=np.float64)
    spreads = centred.T @ centred
    variances, directions = np.linalg.eigh(spreads)
    points = centred @ directions[:, :-3:-1]
    points *= np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])  # either way round would be as right
    return points.astype(np.float32), variances[:-3:-1] / np.trace(spreads)


def save(folder: Path, embedding: Embedding) -> None:
    arrays.save(folder / FILE, embedding)


def load(folder: Path) -> Embedding | None:
    """Of the run in this folder; None where it was evaluated without one."""
    try:
        return arrays.load(folder / FILE, Embedding)
    except FileNotFoundError:
        return None
