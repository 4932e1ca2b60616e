"""The map of images as a network sees them, and the file that keeps it: embedding.npz in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoflow import files
from histoflow.components import SPLITS, SplitName
from histoflow.errors import ExplanationError
from histoflow.explanation.galleries import arrays_of

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
    from sklearn.decomposition import PCA

    found = PCA(n_components=2, svd_solver="covariance_eigh").fit(features)
    return found.transform(features).astype(np.float32), found.explained_variance_ratio_.astype(np.float64)


def save(folder: Path, embedding: Embedding) -> None:
    with files.atomic_file(folder / FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **vars(embedding))


def load(folder: Path) -> Embedding | None:
    """Of the run in this folder; None where it was evaluated without one."""
    columns: dict[str, Any] | None = arrays_of(folder / FILE, tuple(Embedding.__dataclass_fields__))
    return Embedding(**columns) if columns else None
