"""The run folder: what was asked, on what data, with what result.

run.json           the experiment, the environment, the plugins, how far the run has come
experiment.yaml    the experiment again, to read and to run anew
history.json       one entry per epoch
checkpoints/       see histoflow.engine.checkpoint
start/             the model that training begins with, where it does not begin from scratch
fitted.json        what validation fixes: temperature, thresholds, sets    validation.npz  what of
metrics.json       the test figures     predictions.npz  what they were computed from
groups_….npz, robustness.npz, gallery.npz, embedding.npz    the same, of further sections of metrics.json
reference.json     how validation images look, and how sure the model is of them: drift is told from it
predictions/       of images predicted later: what drift is told from, and the tables of predict-flow
speed.json         how fast the test images were predicted, and on what
openings.json      each time the sealed test split was opened, why, and for which model
retraining.json    of a retraining: the model, the gate, whether it begins with the champion's weights
gate.json          of a retraining: the verdict     champion.npz, CHANGE.md  what of, and in words
settled.json       what was decided after the gate, or otherwise than it said
report.html, MODEL_CARD.md
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from histoflow import __version__, files, folders
from histoflow.claims import Claim
from histoflow.components import FIELD_KINDS
from histoflow.errors import RunError
from histoflow.experiment import Experiment
from histoflow.registry import Registry

SCHEMA = 1
RECORD = "run.json"
State = Literal["created", "training", "trained", "evaluated"]


class RunRecord(BaseModel):
    """The content of run.json."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA
    id: str
    name: str
    created: str
    state: State = "created"
    experiment: dict[str, Any]
    environment: dict[str, Any]
    plugins: tuple[dict[str, str], ...]
    packed: str | None = None
    """The folder of the packed data."""
    plan: dict[str, Any] | None = None
    """How it is computed: decided in the first session, and kept to in further ones."""
    data_fingerprint: str | None = None
    best: dict[str, Any] | None = None
    """The epoch that was kept, by which figure, and the figure."""
    stopped: str | None = None
    """Why training ended."""
    warm_from: str | None = None
    """The version of a model that training begins with; None begins from scratch."""
    sessions: tuple[dict[str, Any], ...] = ()
    """Each process that trained it: when, from which epoch on, on what device, with which versions."""


@dataclass(frozen=True)
class Run:
    """A run by its folder. Nothing is held in memory: the files are the truth."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def predictions(self) -> Path:
        """What is kept of the images that were predicted with it."""
        return self.folder / "predictions"

    @property
    def start(self) -> Path:
        """The model that training begins with, like a checkpoint, where it does not begin from scratch."""
        return self.folder / "start"

    def read(self) -> RunRecord:
        return folders.read_record(self.folder / RECORD, RunRecord, SCHEMA)

    def update(self, **changes: Any) -> RunRecord:
        record = self.read().model_copy(update=changes)
        files.write_json(self.folder / RECORD, record.model_dump(mode="json"))
        return record

    def history(self) -> list[dict[str, Any]]:
        return list(self._read_optional("history.json", ()))

    def write_history(self, entries: Sequence[Mapping[str, Any]]) -> None:
        files.write_json(self.folder / "history.json", list(entries))

    def metrics(self) -> dict[str, Any] | None:
        found = self._read_optional("metrics.json", None)
        return None if found is None else dict(found)

    def speed(self) -> dict[str, Any] | None:
        found = self._read_optional("speed.json", None)
        return None if found is None else dict(found)

    def write_speed(self, images_per_second: float, device: str, model_hash: str) -> None:
        """Apart from the test figures, which are the same each time that the same model is evaluated."""
        speed = {"images_per_second": images_per_second, "device": device, "model": model_hash}
        files.write_json(self.folder / "speed.json", speed)

    def openings(self) -> list[dict[str, str]]:
        return list(self._read_optional("openings.json", ()))

    def record_opening(self, reason: str, model_hash: str, of: str | None = None) -> None:
        """Write down that the sealed test split is about to be read; ``of`` names a model of another run."""
        opening = {"time": now(), "reason": reason, "model": model_hash, **({"of": of} if of else {})}
        files.write_json(self.folder / "openings.json", [*self.openings(), opening])

    def is_busy(self) -> bool:
        """Whether a process is working on it."""
        return self._claim.holder() is not None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process, which may do so in several places, or tell that another one does."""
        with folders.held(self._claim, f"Run {self.id}"):
            yield

    @cached_property
    def _claim(self) -> Claim:
        return Claim(self.folder / ".busy")

    def _read_optional(self, name: str, default: Any) -> Any:
        path = self.folder / name
        if not path.is_file():
            return default
        try:
            return files.read_json(path)
        except ValueError as error:
            raise RunError(f"{path} is damaged: {error}") from error


def new_id(name: str) -> str:
    """A folder name that sorts by time and tells the experiment."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{name}-{secrets.token_hex(2)}"


def create(home: Path, run_id: str, experiment: Experiment, registry: Registry) -> Run:
    """Make the folder of a new run."""
    folders.refuse_bad_id("run", run_id)
    folder = home / run_id
    files.remove_unfinished(folder)
    record = RunRecord(
        id=run_id,
        name=experiment.name,
        created=now(),
        experiment=experiment.to_data(),
        environment=environment(),
        plugins=tuple(_plugins_of(experiment, registry)),
    )
    with files.atomic_folder(folder) as temporary:
        files.write_json(temporary / RECORD, record.model_dump(mode="json"))
        files.write_text(temporary / "experiment.yaml", files.yaml_of(record.experiment))
    return Run(folder)


def find(home: Path, reference: str) -> Run:
    """The run of this folder, this id, or this unmistakable part of one; ``latest`` is the newest."""
    return Run(folders.find(home, RECORD, reference, "run", "runs"))


def listing(home: Path) -> list[Run]:
    """All runs, oldest first."""
    return [Run(folder) for folder in folders.listing(home, RECORD)]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """What a reader needs to judge or repeat the run on another machine."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "prefect")
    return {
        "histoflow": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        **{package: _version(package) for package in packages},
    }


@cache
def _version(package: str) -> str | None:
    """Of what is installed; found once, as its description is parsed each time."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plugins_of(experiment: Experiment, registry: Registry) -> list[dict[str, str]]:
    """The distributions whose components the experiment uses."""
    providers = set()
    for field, kind in FIELD_KINDS.items():
        chosen = getattr(experiment, field)
        for choice in chosen if isinstance(chosen, tuple) else (chosen,):
            providers.add(registry.provider(kind, choice.name))
    return [
        {"plugin": provider.plugin, "package": provider.package, "version": provider.version}
        for provider in sorted(providers, key=lambda provider: (provider.package, provider.plugin))
    ]
