"""What the gate said of a run, as it is kept beside the run's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders
from histoflow.retraining.gate import Gate, Verdict

FILE = "gate.json"
SCHEMA = 1


class Judged(BaseModel):
    """The content of gate.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    schema_version: int = SCHEMA
    name: str
    """The model whose champion was challenged."""
    run: str
    """The challenger."""
    time: str
    gate: Gate
    champion: int | None
    """The version that was champion; None where there was none."""
    champion_model: str | None
    """The hash of its weights."""
    same_as: int | None = None
    """The version that it is already, weights and all, where something was decided about that before."""
    data_changes: str
    """What is new beside the champion's data; without a champion, since the data set was last fetched."""
    verdict: Verdict
    images: int | None = None
    """Test images that both predicted; None where they were not compared."""
    groups: int | None = None
    metric: str | None = None
    """The one that decides."""
    figures: dict[str, Any] = {}
    """Of the metrics and of calibration: a (the champion), b, difference, low, high."""
    notes: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        files.write_json(folder / FILE, self.model_dump(mode="json"))


def read(folder: Path) -> Judged | None:
    """Of the run in this folder; None for one that no gate was asked about."""
    path = folder / FILE
    return folders.read_record(path, Judged, SCHEMA) if path.is_file() else None
