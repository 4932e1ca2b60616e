"""The npz files in a run's folder: plain arrays, the list of them, and the model that they are of."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from histoflow import files
from histoflow.errors import DataError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

_LIST = "columns"
_DAMAGE = (
    BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    MemoryError,  # a header may claim any size
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What reading a file whose bytes were changed can end in."""


def save(path: Path, record: DataclassInstance) -> None:
    """The fields of the record, those that are None or empty text left out."""
    told = ((name, value) for name, value in vars(record).items() if value is not None)
    columns = {name: np.asarray(value) for name, value in told if not isinstance(value, str) or value}
    with files.atomic_file(path) as temporary, temporary.open("wb") as file:
        # The list comes first, as a damaged table of contents loses what comes last. Names of sources repeat.
        np.savez_compressed(file, **({_LIST: np.array(list(columns))} | columns))  # type: ignore[arg-type]


def load(path: Path, kind: type[Record], check: Callable[[Record], None] | None = None) -> Record:
    """The record that was saved, or a DataError; ``check`` raises ValueError for one that cannot be.

    A FileNotFoundError where there is none.
    """
    try:
        found = kind(**_columns(path, kind))
        if check is not None:
            check(found)
    except FileNotFoundError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is damaged: {error}. {again(path)}") from error
    return found


def _columns(path: Path, kind: type[DataclassInstance]) -> dict[str, Any]:
    """Those that the record has; files of before there was a list hold what they hold."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        found: dict[str, Any] = {name: kept[name] for name in kept.files}
    known = {field.name: field for field in fields(kind)}
    unlisted = found.keys() - known.keys()
    listed = set(found.pop(_LIST).tolist()) if _LIST in found else None
    if listed is None and unlisted:
        raise ValueError(f"it holds unknown columns: {', '.join(sorted(unlisted))}")
    needed = {name for name, one in known.items() if one.default is MISSING} | (listed or set())
    if missing := needed - found.keys():
        raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
    if "model" in found:
        found["model"] = str(found["model"])
    return {name: column for name, column in found.items() if name in known}


def refuse_other_model(path: Path, model: str, expected: str) -> None:
    """The file must be of the model whose figures it is read with; of older ones that is not known."""
    if model and model != expected:
        raise DataError(
            f"{path} must be of the model whose figures the run has, {expected[:12]}. It is of {model[:12]}, "
            f"as after an evaluation that was ended half-way. {again(path)}"
        )


def again(path: Path) -> str:
    return f"Evaluate the run again: histoflow evaluate {path.parent.name}"
