"""Where histoflow writes: everything lies under one folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from histoflow.errors import HomeError

VARIABLE = "HISTOFLOW_HOME"


def folder() -> Path:
    """``HISTOFLOW_HOME``, or the platform's folder for user data."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_data_path("histoflow")


def raw() -> Path:
    return _writable(folder() / "data" / "raw")


def packed() -> Path:
    return _writable(folder() / "data" / "packed")


def runs(*, reading: bool = False) -> Path:
    """For ``reading`` it need not be writable."""
    return _found(folder() / "runs", reading)


def studies() -> Path:
    """Of tuning; the runs of their trials lie there as well."""
    return _writable(folder() / "studies")


def cross_validations() -> Path:
    """What the folds of each came to; the runs of the folds lie among the runs."""
    return _writable(folder() / "cross-validations")


def models(*, reading: bool = False) -> Path:
    """The registry of models. For ``reading`` it need not be writable."""
    return _found(folder() / "models", reading)


def lr_finds() -> Path:
    """What tests of learning rates found."""
    return _writable(folder() / "lr-find")


def flow_runs() -> Path:
    """Which process works on which flow run."""
    return _writable(folder() / "flow-runs")


def prefect() -> Path:
    """For the database of flows that run without a server of the user's own."""
    return _writable(folder() / "prefect")


def _found(path: Path, reading: bool) -> Path:
    return path if reading and path.is_dir() else _writable(path)


def _writable(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise HomeError(
            f"histoflow cannot write to its home {path}: {error.strerror}. "
            f"Set {VARIABLE} to a folder that you may write to."
        ) from error
    return path
