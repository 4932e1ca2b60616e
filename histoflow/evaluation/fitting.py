"""What a model's probabilities need to be used: fitted on validation, kept beside the weights.

A temperature makes probabilities mean what they say; thresholds say from which one on a class is told; levels
say from which one on it belongs to the prediction set. All three are functions of probabilities, so that
whoever has a model's probabilities needs no more than ``fitted.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from histoflow import files
from histoflow.components import Task
from histoflow.errors import DataError
from histoflow.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.experiment import Evaluation

FILE = "fitted.json"
SCHEMA = 1
_LEAST = 1e-12
"""Of a probability: float32 has already rounded what is nearer to 0 or 1."""


class Fitted(BaseModel):
    """The content of fitted.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: int = SCHEMA
    model: str
    """The hash of the weights that it was fitted for."""
    task: Task
    images: int
    """Of validation, that it was fitted on."""
    temperature: float = 1.0
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

    def calibrated(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images × classes, as the network gives them, to the same with the temperature."""
        if self.temperature == 1:
            return probabilities
        clipped = np.clip(probabilities, _LEAST, 1)
        powers = clipped ** (1 / self.temperature)
        if self.task == "multilabel":
            others = np.clip(1 - probabilities, _LEAST, 1) ** (1 / self.temperature)
            return np.asarray(powers / (powers + others))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def told(self, calibrated: NDArray[np.float64]) -> NDArray[np.int64]:
        """The class of each image; in ``multilabel`` tasks images × classes of 0 and 1."""
        if self.task == "multilabel":
            above = calibrated > 0.5 if self.thresholds is None else calibrated >= np.array(self.thresholds)
            return above.astype(np.int64)
        if self.thresholds is not None:
            return np.asarray(calibrated[:, 1] >= self.thresholds[0], np.int64)
        return calibrated.argmax(axis=1)

    def sets(self, calibrated: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Images × classes: which belong to each image's prediction set; None where none were fitted."""
        return None if self.levels is None else calibrated >= np.array(self.levels)

    def save(self, folder: Path) -> None:
        files.write_json(folder / FILE, self.model_dump(mode="json"))


def fit(validation: Predictions, settings: Evaluation, model: str) -> Fitted:
    """All that the settings ask for."""
    several = validation.labels.ndim == 2
    task: Task = (
        "multilabel" if several else ("binary" if validation.probabilities.shape[1] == 2 else "multiclass")
    )
    return Fitted(model=model, task=task, images=len(validation.labels))


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
