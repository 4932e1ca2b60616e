"""What a model's probabilities need to be used: fitted on validation, kept beside the weights.

A temperature makes probabilities mean what they say; thresholds say from which one on a class is told; levels
say from which one on it belongs to the prediction set. All three are functions of probabilities, so that
whoever has a model's probabilities needs no more than ``fitted.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from histoflow import files
from histoflow.components import Task
from histoflow.errors import DataError
from histoflow.evaluation.answers import shown
from histoflow.evaluation.conformal import fit_levels
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.scores import checked_split
from histoflow.evaluation.temperature import fit_temperature, tempered
from histoflow.evaluation.thresholds import choose_threshold, rule_in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.experiment import Evaluation

FILE = "fitted.json"
SCHEMA = 1


class Fitted(BaseModel):
    """The content of fitted.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    schema_version: int = SCHEMA
    model: str
    """The hash of the weights that it was fitted for."""
    task: Task
    images: int
    """Of validation, that it was fitted on."""
    temperature: float = Field(1.0, gt=0)
    """Above 1 it makes probabilities less sure."""
    thresholds: tuple[float, ...] | None = None
    """Of calibrated probabilities. binary: one, of the second class; multilabel: one for each class. None:
    the likeliest class, or every class above one half."""
    rule: str = ""
    """How the thresholds were chosen, in words."""
    coverage: float | None = None
    """How often prediction sets are to hold the true class."""
    levels: tuple[float, ...] | None = None
    """For each class: from which calibrated probability on it belongs to the set."""
    notes: tuple[str, ...] = ()
    """What could not be fitted, and why."""

    @field_validator("schema_version")
    @classmethod
    def _refuse_unknown(cls, schema: int) -> int:
        if schema != SCHEMA:
            raise ValueError(f"it must be {SCHEMA} for this histoflow, and is {schema}")
        return schema

    @model_validator(mode="after")
    def _refuse_misfit(self) -> Self:
        if problem := self.problem_with(self._classes):
            raise ValueError(problem)
        return self

    @property
    def _classes(self) -> int | None:
        """As far as it tells itself."""
        if self.task == "binary":
            return 2
        known = self.levels if self.thresholds is None else self.thresholds
        return None if known is None else len(known)

    def problem_with(self, classes: int | None) -> str:
        """Why it cannot be of a model with so many classes; nothing where it can."""
        if self.task == "binary" and classes != 2:
            return f"it is of a task with 2 classes, and there are {classes}"
        wanted = {"binary": 1, "multiclass": 0, "multilabel": classes}[self.task]
        if self.thresholds is not None and (len(self.thresholds) != wanted or not wanted):
            return (
                f"thresholds of a {self.task} task must be {wanted or 'none'}, and are {len(self.thresholds)}"
            )
        if self.levels is not None and len(self.levels) != classes:
            return f"there must be a level for each of {classes} classes, and are {len(self.levels)} levels"
        return ""

    def calibrated(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images × classes, as the network gives them, to the same with the temperature."""
        return tempered(probabilities, self.temperature, several=self.task == "multilabel")

    def told(self, calibrated: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each image; in ``multilabel`` tasks images × classes of 0 and 1."""
        if self.task == "multilabel":
            above = calibrated > 0.5 if self.thresholds is None else calibrated >= np.array(self.thresholds)
            return above.astype(np.int64)
        if self.thresholds is not None:
            return np.asarray(calibrated[:, 1] >= self.thresholds[0], np.int64)
        return np.asarray(calibrated.argmax(axis=1))

    def sets(self, calibrated: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Images × classes: which belong to each image's prediction set; None where none were fitted."""
        return None if self.levels is None else calibrated >= np.array(self.levels)

    def save(self, folder: Path) -> None:
        files.write_json(folder / FILE, self.model_dump(mode="json"))


def fit(validation: Predictions, settings: Evaluation, model: str) -> Fitted:
    """All that the settings ask for; ``model`` is the hash of the weights that made the predictions."""
    probabilities, labels = _checked(validation)
    bare = Fitted(model=model, task=_task_of(probabilities, labels), images=len(labels))
    calibrated = _with_temperature(bare, probabilities, labels, settings)
    decided = _with_thresholds(calibrated, probabilities, labels, settings)
    return _with_sets(decided, probabilities, labels, settings)


def _checked(validation: Predictions) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        return checked_split(validation.probabilities, validation.labels)
    except DataError as error:
        raise DataError(f"Nothing can be fitted on what the model says of validation. {error}") from error


def _task_of(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Task:
    if labels.ndim == 2:
        return "multilabel"
    return "binary" if probabilities.shape[1] == 2 else "multiclass"


def _with_temperature(
    fitted: Fitted, probabilities: NDArray[np.float64], labels: NDArray[np.int64], settings: Evaluation
) -> Fitted:
    if settings.calibration == "none":
        return fitted
    temperature, note = fit_temperature(probabilities, labels)
    return _noted(fitted, [f"temperature: {note}"] if note else [], temperature=temperature)


def _with_thresholds(
    fitted: Fitted, probabilities: NDArray[np.float64], labels: NDArray[np.int64], settings: Evaluation
) -> Fitted:
    if settings.threshold == "likeliest" or fitted.task == "multiclass":
        likeliest = "above one half" if fitted.task == "multilabel" else "the likeliest class"
        return fitted.model_copy(update={"rule": likeliest})
    calibrated, true = fitted.calibrated(probabilities), shown(labels, probabilities.shape[1])
    classes = range(true.shape[1]) if fitted.task == "multilabel" else (1,)
    found = {one: choose_threshold(calibrated[:, one], true[:, one], settings) for one in classes}
    notes = [f"threshold of class {one}: {note}" for one, (_, note) in found.items() if note]
    return _noted(
        fitted,
        notes,
        rule=rule_in_words(settings),
        thresholds=tuple(threshold for threshold, _ in found.values()),
    )


def _with_sets(
    fitted: Fitted, probabilities: NDArray[np.float64], labels: NDArray[np.int64], settings: Evaluation
) -> Fitted:
    if settings.coverage is None:
        return fitted
    true = shown(labels, probabilities.shape[1])
    levels, notes = fit_levels(fitted.calibrated(probabilities), true, settings.coverage)
    return _noted(
        fitted, [f"prediction sets: {note}" for note in notes], coverage=settings.coverage, levels=levels
    )


def _noted(fitted: Fitted, notes: Sequence[str], **found: Any) -> Fitted:
    return fitted.model_copy(update={**found, "notes": (*fitted.notes, *notes)})


def load(folder: Path) -> Fitted | None:
    """Of the run in this folder; None where it was evaluated before there was any."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Fitted.model_validate(files.read_json(path))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}. Evaluate the run again: histoflow evaluate {folder.name}"
        ) from error
