"""What became of a challenger in the end, where that is not what the gate said; kept beside the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders

FILE = "settled.json"
SCHEMA = 1


class Settled(BaseModel):
    """The content of settled.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    schema_version: int = SCHEMA
    version: str
    """The version of the model that the run became, such as colon@4."""
    what: Literal["promote", "hold", "reject"]
    by: str
    time: str
    why: str

    def write(self, folder: Path) -> None:
        files.write_json(folder / FILE, self.model_dump(mode="json"))


def read(folder: Path) -> Settled | None:
    """Of the run in this folder; None where nothing was decided beside what the gate said."""
    path = folder / FILE
    return folders.read_record(path, Settled, SCHEMA) if path.is_file() else None
