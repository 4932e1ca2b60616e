"""What a retraining was asked for beside its experiment; kept with the run, which goes on as it began."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders
from histoflow.errors import UserError
from histoflow.retraining.gate import Gate
from histoflow.runs import Run

FILE = "retraining.json"
SCHEMA = 1


class Asked(BaseModel):
    """The content of retraining.json."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    schema_version: int = SCHEMA
    name: str
    """The model whose champion is challenged."""
    gate: Gate
    warm_start: bool

    def keep(self, folder: Path) -> None:
        """Before training begins; what a run that goes on was asked for at its start stays."""
        if not (folder / FILE).exists():
            files.write_json(folder / FILE, self.model_dump(mode="json"))


def read(run: Run) -> Asked:
    if not (run.folder / FILE).is_file():
        raise UserError(
            f"Run {run.id} is no retraining that got as far as its training, and cannot go on as one. "
            f"Begin one with: histoflow retrain {run.folder / 'experiment.yaml'}"
        )
    return folders.read_record(run.folder / FILE, Asked, SCHEMA)


def refuse_others(begun: Asked, wanted: Asked) -> None:
    """A run that is judged otherwise than it was begun would be another one."""
    told = wanted.gate.model_dump()
    changed = [
        (f"--gate {key}", was, told[key]) for key, was in begun.gate.model_dump().items() if told[key] != was
    ]
    if wanted.name != begun.name:
        changed.insert(0, ("--name", begun.name, wanted.name))
    if wanted.warm_start != begun.warm_start:
        changed.append(("--warm-start", begun.warm_start, wanted.warm_start))
    if changed:
        differing = "; ".join(f"{what} was {was}, and is {now} now" for what, was, now in changed)
        raise UserError(
            f"A retraining goes on as it was begun, and needs no option but --resume: {differing}. "
            f"Leave them out, or start a new one."
        )
