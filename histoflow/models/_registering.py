"""An evaluated run becomes a version of a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from histoflow import files, folders, home
from histoflow.errors import RunError
from histoflow.models import _state
from histoflow.models._versions import (
    RECORD,
    VERSIONS,
    Figure,
    KeptFile,
    Version,
    VersionRecord,
    versions_in,
)
from histoflow.runs import Run, RunRecord, now

if TYPE_CHECKING:
    from histoflow.engine.checkpoint import Checkpoint

_NEEDED = ("run.json", "experiment.yaml", "metrics.json", "predictions.npz", "fitted.json")
_IF_THERE = ("validation.npz", "reference.json", "speed.json", "openings.json", "history.json")


def register(run: Run, name: str | None = None, *, note: str = "", warm_from: str | None = None) -> Version:
    """Make an evaluated run a version of a model, by default of the one named as its experiment.

    The version is a candidate. A model that was registered before, of whichever run, is that version still.
    ``warm_from`` says what training began with, where the run does not.
    """
    with run.lock():  # a training under way would take the checkpoint away
        best, metrics = _evaluated(run)
        record = run.read()
        name = record.name if name is None else name
        folders.refuse_bad_id("model", name, longest=60)
        with _registering(home.models() / name) as line:
            known = next((one for one in versions_in(line) if one.record.model == best.model_hash), None)
            told = {"note": note, "warm_from": warm_from or record.warm_from}
            return known or _place(line, run, best, _facts(record, metrics) | told)


def _evaluated(run: Run) -> tuple[Checkpoint, dict[str, Any]]:
    """Its best checkpoint and the figures of it, if all that belongs to them is there and whole."""
    from histoflow.engine import checkpoint
    from histoflow.evaluation import fitting, predictions

    best, metrics = checkpoint.find(run.checkpoints, "best"), run.metrics()
    again = f"Evaluate it: histoflow evaluate {run.id}"
    if best is None or metrics is None:
        raise RunError(f"Run {run.id} has not been evaluated, so it is no model yet. {again}")
    fitted = fitting.load(run.folder)
    if fitted is None or {metrics.get("model"), fitted.model} != {best.model_hash}:
        raise RunError(f"The figures of run {run.id} are not those of its best model. {again}")
    predictions.load(run.folder)
    return best, metrics


@contextmanager
def _registering(line: Path) -> Iterator[Path]:
    """The model's folder, in which no other process registers a version for now."""
    line.mkdir(exist_ok=True)
    with FileLock(line / ".registering.lock"):
        for leftover in (line / VERSIONS).glob(".*"):  # of a process that was killed
            shutil.rmtree(leftover)
        yield line


def _place(line: Path, run: Run, best: Checkpoint, facts: dict[str, Any]) -> Version:
    from histoflow.engine.model_only import keep_model
    from histoflow.evaluating import store_of

    number = max((one.number for one in versions_in(line)), default=0) + 1
    version = Version(line / VERSIONS / f"{number:04d}")
    with files.atomic_folder(version.folder) as temporary:
        for name in (*_NEEDED, *_IF_THERE):
            if name in _NEEDED or (run.folder / name).is_file():
                shutil.copyfile(run.folder / name, temporary / name)
        shutil.copyfile(store_of(run).folder / "manifest.json", temporary / "manifest.json")
        keep_model(best, temporary / "checkpoints")
        record = VersionRecord(
            name=line.name,
            number=number,
            created=now(),
            model=best.model_hash,
            parent=_state.read(line).champion,
            files=_kept(temporary),
            **facts,
        )
        files.write_json(temporary / RECORD, record.model_dump(mode="json"))
    return version


def _kept(folder: Path) -> dict[str, KeptFile]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): KeptFile(
            sha256=files.digest_of_file(path), bytes=path.stat().st_size
        )
        for path in found
    }


def _facts(record: RunRecord, metrics: dict[str, Any]) -> dict[str, Any]:
    from histoflow.evaluation.scores import from_json

    return {
        "run": record.id,
        "epoch": metrics["epoch"],
        "classes": tuple(metrics["classes"]),
        "data_fingerprint": record.data_fingerprint,
        "code_version": record.environment["histoflow"],
        "plugins": record.plugins,
        "environment": record.environment,
        "seed": record.experiment["seed"],
        "metrics": {
            name: Figure(
                value=score.value, interval=score.interval, note=score.undefined or score.interval_note
            )
            for name, score in from_json(metrics).items()
        },
    }
