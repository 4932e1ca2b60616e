"""A model by what a person calls it: a run, or a version in the registry of models."""

from __future__ import annotations

from pathlib import Path

from histoflow import home, models, runs
from histoflow.runs import RECORD, Run


def find(reference: str) -> Run:
    """The run of this folder, id or part of one, or ``latest``; else of a model: ``colon``, ``colon@3``.

    A version of a model is what was registered, with every file checked, whatever has become of its run.
    """
    if not _is_model(reference):
        return runs.find(home.runs(), reference)
    version = models.find(reference)
    models.verify(version)
    return version.run


def of_folder(folder: Path) -> Run:
    """What ``find`` found, by its folder alone."""
    return models.Version(folder).run if home.models(reading=True) in folder.parents else Run(folder)


def _is_model(reference: str) -> bool:
    if (Path(reference) / RECORD).is_file():
        return False
    if "@" in reference:  # no run's id has one
        return True
    known = {line.name for line in models.listing()}
    return reference in known and not (home.runs(reading=True) / reference / RECORD).is_file()
