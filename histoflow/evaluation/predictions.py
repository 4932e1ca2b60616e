"""What the figures of a run were computed from, kept beside them in predictions.npz."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from histoflow import files
from histoflow.errors import DataError

if TYPE_CHECKING:
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


def save(folder: Path, predictions: Predictions, file_name: str = TEST) -> None:
    columns = {name: column for name, column in vars(predictions).items() if column is not None}
    with files.atomic_file(folder / file_name) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **columns)  # names of sources repeat much of each other


def load(folder: Path, file_name: str = TEST) -> Predictions:
    """Those of the run in this folder, or a DataError that says what is the matter with them."""
    path = folder / file_name
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            columns = {name: kept[name] for name in kept.files}
        return _checked(columns)
    except FileNotFoundError:
        raise DataError(f"There is no {path}. {_again(folder)}") from None
    except (BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error}. {_again(folder)}") from error


def _checked(columns: dict[str, NDArray[Any]]) -> Predictions:
    missing = {"probabilities", "labels"} - columns.keys()
    if missing:
        raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
    lengths = {name: len(column) if column.ndim else 0 for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length:,} {name}" for name, length in lengths.items())
        raise ValueError(f"it must hold as many of each, and holds {told}")
    known = Predictions.__dataclass_fields__
    return Predictions(**{name: column for name, column in columns.items() if name in known})


def _again(folder: Path) -> str:
    return f"Evaluate the run again: histoflow evaluate {folder.name}"
