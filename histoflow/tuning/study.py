"""The study's folder: what is searched, on what, and where its trials lie.

study.json     the experiment, the search, the environment
study.db       optuna's database of trials, unless the search names another
trials/        a run folder for each trial
best.yaml      the best experiment so far, to train it: histoflow train best.yaml
tuning.html    the report
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders, home
from histoflow.claims import Claim
from histoflow.errors import RunError
from histoflow.experiment import parse
from histoflow.registry import Registry
from histoflow.runs import Run, environment, new_id, now
from histoflow.tuning.checking import space_of
from histoflow.tuning.settings import Tuning, parse_search

SCHEMA = 1
RECORD = "study.json"
_LONGEST_ID = 100
"""Leaves room for the trial's number in the id of the run that trains it in full."""
MAY_CHANGE = ("trials", "parallel", "runner", "address", "retrain")
"""What a study that goes on may be told anew: none of it changes the trials that are done."""


class StudyRecord(BaseModel):
    """The content of study.json."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA
    id: str
    name: str
    created: str
    experiment: dict[str, Any]
    search: dict[str, Any]
    environment: dict[str, Any]
    packed: str | None = None
    """The folder of the packed data."""
    data_fingerprint: str | None = None


@dataclass(frozen=True)
class Study:
    """A study by its folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def trials(self) -> Path:
        return self.folder / "trials"

    def trial_run(self, name: str) -> Run:
        return Run(self.trials / name)

    def read(self) -> StudyRecord:
        return folders.read_record(self.folder / RECORD, StudyRecord, SCHEMA)

    def update(self, **changes: Any) -> None:
        record = self.read().model_copy(update=changes)
        files.write_json(self.folder / RECORD, record.model_dump(mode="json"))

    def tuning(self, registry: Registry | None = None) -> Tuning:
        """What the study was told, under the plugins that are installed now."""
        record, source = self.read(), str(self.folder / RECORD)
        return Tuning(parse(record.experiment, registry, source), parse_search(record.search, source))

    def hold_data(self, packed: Path, fingerprint: str) -> None:
        """All trials of a study are of the same data, also where it goes on another day."""
        folders.refuse_other_data(f"study {self.id}", self.read().data_fingerprint, fingerprint)
        self.update(packed=str(packed), data_fingerprint=fingerprint)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for this process, or tell that another one drives it."""
        with folders.held(self._claim, f"Study {self.id}"):
            yield

    @cached_property
    def _claim(self) -> Claim:
        return Claim(self.folder / ".busy")


def begin(tuning: Tuning, study_id: str | None = None, registry: Registry | None = None) -> Study:
    """The folder of a new study, or of the one to go on with, which must search the same."""
    space_of(tuning, registry)
    study = Study(home.studies() / (study_id or new_id(tuning.experiment.name)))
    folders.refuse_bad_id("study", study.id, _LONGEST_ID)
    if study.folder.exists():
        _go_on(study, tuning)
    else:
        _create(study, tuning)
    return study


def _create(study: Study, tuning: Tuning) -> None:
    record = StudyRecord(
        id=study.id,
        name=tuning.experiment.name,
        created=now(),
        experiment=tuning.experiment.to_data(),
        search=tuning.search.to_data(),
        environment=environment(),
    )
    files.remove_unfinished(study.folder)
    with files.atomic_folder(study.folder) as temporary:
        files.write_json(temporary / RECORD, record.model_dump(mode="json"))
        (temporary / "trials").mkdir()


def _go_on(study: Study, tuning: Tuning) -> None:
    record, search = study.read(), tuning.search.to_data()
    kept = {key: value for key, value in search.items() if key not in MAY_CHANGE}
    before = {key: value for key, value in record.search.items() if key not in MAY_CHANGE}
    changed = [key for key in kept if kept[key] != before.get(key)]
    if record.experiment != tuning.experiment.to_data():
        changed.append("experiment")
    if changed:
        raise RunError(
            f"Study {study.id} was begun with another {', '.join(changed)}. Go on with it unchanged "
            f"(--resume {study.id}; {', '.join(MAY_CHANGE)} may differ), or begin a new study."
        )
    study.update(search=search)


def find(reference: str) -> Study:
    """The study of this folder, this id, or this unmistakable part of one; ``latest`` is the newest."""
    return Study(folders.find(home.studies(), RECORD, reference, "study", "studies"))


def listing() -> list[Study]:
    """All studies, oldest first."""
    return [Study(folder) for folder in folders.listing(home.studies(), RECORD)]
