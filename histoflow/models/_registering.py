"""An evaluated run becomes a version of a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoflow import files, folders, home
from histoflow.errors import RunError
from histoflow.models import _state
from histoflow.models._locking import alone
from histoflow.models._state import VERSIONS, State
from histoflow.models._versions import (
    NEEDED,
    RECORD,
    RECORD_HASH,
    Figure,
    KeptFile,
    Version,
    VersionRecord,
    hash_of_record,
    versions_in,
)
from histoflow.runs import RECORD as RUN_RECORD
from histoflow.runs import Run, RunRecord, now

if TYPE_CHECKING:
    from histoflow.engine.checkpoint import Checkpoint

_FITTED = "fitted.json"
_JUDGED = ("gate.json", "champion.npz")
"""What a gate found of the run beside the champion of its day."""
_IF_THERE = (
    "validation.npz",
    "reference.json",
    "speed.json",
    "openings.json",
    "history.json",
    *_JUDGED,
)


def register(run: Run, name: str | None = None, *, note: str = "", warm_from: str | None = None) -> Version:
    """Make an evaluated run a version of a model, by default of the one named as its experiment.

    The version is a candidate. What has the same weights, answers by the same ``fitted.json`` and comes from
    the same data, preprocessed in the same way, is one version, of whichever run it was registered.
    ``warm_from`` says what training began with, where the run does not.
    """
    with run.lock():  # a training under way would take the checkpoint away
        best, metrics = _evaluated(run)
        record = run.read()
        name = record.name if name is None else name
        refuse_bad_name(name)
        with _registering(home.models() / name) as line:
            told = {"note": note, "warm_from": warm_from or record.warm_from}
            return _known(line, run, best) or _place(line, run, best, _facts(record, metrics) | told)


def refuse_bad_name(name: str) -> None:
    try:
        folders.refuse_bad_id("model", name, longest=60)
        _refuse_name_of_a_run(name)
    except RunError as error:
        raise RunError(f"{error} Give the model another name: --name NAME") from error


def _refuse_name_of_a_run(name: str) -> None:
    """A command that is given such a name takes the run; a model that stands already may go on."""
    is_run = (home.runs() / name / RUN_RECORD).is_file() and not versions_in(home.models() / name)
    if is_run or name == "latest":
        raise RunError(
            f"A model cannot be named '{name}', which is the name of {'a' if is_run else 'the newest'} run."
        )


def _known(line: Path, run: Run, best: Checkpoint) -> Version | None:
    """The version that this is already; the fingerprint of data tells how they were preprocessed, too."""
    fitted = files.digest_of_file(run.folder / _FITTED)
    told = (best.model_hash, fitted, run.read().data_fingerprint)
    return next((one for one in versions_in(line) if _identity(one.record) == told), None)


def _identity(record: VersionRecord) -> tuple[str, str | None, str]:
    fitted = record.files.get(_FITTED)
    return record.model, fitted.sha256 if fitted else None, record.data_fingerprint


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
    for name in (predictions.TEST, predictions.VALIDATION):
        if name in NEEDED or (run.folder / name).is_file():
            predictions.load(run.folder, name, model=best.model_hash)
    return best, metrics


@contextmanager
def _registering(line: Path) -> Iterator[Path]:
    """The model's folder, in which no other process registers a version for now."""
    line.mkdir(exist_ok=True)
    with alone(line, "registering"):
        for leftover in (line / VERSIONS).glob(".[0-9]*.*"):  # of a process that was killed
            shutil.rmtree(leftover)
        yield line


def _place(line: Path, run: Run, best: Checkpoint, facts: dict[str, Any]) -> Version:
    from histoflow.engine.model_only import keep_model

    state = _state.read(line)
    version = Version(line / VERSIONS / f"{_next_number(line, state):04d}")
    _state.begin(line)
    with files.atomic_folder(version.folder) as temporary:
        for name, path in _kept_files(run).items():
            shutil.copyfile(path, temporary / name)
        keep_model(best, temporary / "checkpoints")
        record = VersionRecord(
            name=line.name,
            number=version.number,
            created=now(),
            model=best.model_hash,
            parent=state.champion,
            files=_kept(temporary),
            **facts,
        )
        files.write_json(temporary / RECORD, record.model_dump(mode="json"))
        files.write_text(temporary / RECORD_HASH, hash_of_record(temporary))
    return version


def _next_number(line: Path, state: State) -> int:
    """One that no version has, nor had when something was decided about it."""
    return max(*(one.number for one in versions_in(line)), *state.stages, 0, 0) + 1


def _kept_files(run: Run) -> dict[str, Path]:
    from histoflow.evaluating import store_of

    found = {name: run.folder / name for name in (*NEEDED, *_IF_THERE)}
    if not found["manifest.json"].is_file():  # a version that is registered anew has its own
        found["manifest.json"] = store_of(run).folder / "manifest.json"
    return {name: path for name, path in found.items() if name in NEEDED or path.is_file()}


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
