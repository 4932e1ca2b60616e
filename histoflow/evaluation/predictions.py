"""What the figures of a run were computed from, kept beside them in predictions.npz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow.errors import DataError
from histoflow.evaluation import arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEST, VALIDATION = "predictions.npz", "validation.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One entry for each image of a split, in its order."""

    probabilities: NDArray[np.float64]
    """Images × classes."""
    labels: NDArray[np.int64]
    """The number of each image's class; in ``multilabel`` tasks images × classes of 0 and 1."""
    groups: NDArray[np.str_] | None = None
    """The patient, slide or photo of each image; None where they are not known, or were not kept."""
    sources: NDArray[np.str_] | None = None
    """Where each image came from; None in runs evaluated before this was kept."""
    model: str = ""
    """The hash of the weights that said it; empty in runs evaluated before this was kept."""


def save(folder: Path, predictions: Predictions, file_name: str = TEST) -> None:
    arrays.save(folder / file_name, predictions)


def load(folder: Path, file_name: str = TEST, *, model: str | None = None) -> Predictions:
    """Those of the run in this folder, or a DataError that says what is the matter with them.

    ``model`` is the hash of the weights whose figures they are read with.
    """
    path = folder / file_name
    try:
        found = arrays.load(path, Predictions, _check)
    except FileNotFoundError:
        raise DataError(f"There is no {path}. {arrays.again(path)}") from None
    if model is not None:
        arrays.refuse_other_model(path, found.model, model)
    return found


def _check(found: Predictions) -> None:
    columns = {name: column for name, column in vars(found).items() if name != "model" and column is not None}
    lengths = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise ValueError(f"it must hold as many of each, and holds {told}")
