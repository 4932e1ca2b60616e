"""Cross-validation: a run for each fold, and what they came to together.

cross-validations/<id>/folds.json     the experiment, the runs of its folds, mean and standard deviation
cross-validations/<id>/report.html    the same to read
runs/<id>-fold-2-of-5/                the run of a fold, like any other
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from histoflow import files, folders, home, runs
from histoflow import registry as plugins
from histoflow.claims import Claim
from histoflow.errors import RunError
from histoflow.experiment import Experiment, parse
from histoflow.fold_results import FoldResult, Summary, summarise
from histoflow.registry import Registry
from histoflow.runs import Run, environment, now

SCHEMA = 1
RECORD = "folds.json"
_LONGEST_ID = 105
"""Leaves room for the fold in the ids of its runs."""


class FoldsRecord(BaseModel):
    """The content of folds.json."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA
    id: str
    name: str
    created: str
    experiment: dict[str, Any]
    folds: int
    environment: dict[str, Any]
    packed: str | None = None
    """The folder of the packed data that the folds are cut from."""
    data_fingerprint: str | None = None
    results: tuple[FoldResult, ...] = ()
    """Of the folds that are done."""
    summary: Summary | None = None
    """Of all folds; None until the last one is done."""


@dataclass(frozen=True)
class Fold:
    """One fold, and the run that trains it."""

    number: int
    experiment: Experiment
    run: Run
    is_done: bool

    @property
    def title(self) -> str:
        return f"Fold {self.number} of {self.experiment.training.folds}: {self.run.id}"


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation by its folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    def read(self) -> FoldsRecord:
        return folders.read_record(self.folder / RECORD, FoldsRecord, SCHEMA)

    def update(self, **changes: Any) -> FoldsRecord:
        record = self.read().model_copy(update=changes)
        files.write_json(self.folder / RECORD, record.model_dump(mode="json"))
        return record

    def experiment(self, registry: Registry | None = None) -> Experiment:
        """Under the plugins that are installed now."""
        return parse(self.read().experiment, registry, source=str(self.folder / RECORD))

    def folds(self, registry: Registry | None = None) -> list[Fold]:
        return [self.fold(number, registry) for number in range(1, self.read().folds + 1)]

    def fold(self, number: int, registry: Registry | None = None) -> Fold:
        record = self.read()
        run = Run(home.runs() / fold_id(self.id, number, record.folds))
        is_done = run.folder.exists() and any(result.fold == number for result in record.results)
        return Fold(number, _of_fold(self.experiment(registry), number), run, is_done)

    def hold_data(self, packed: Path, fingerprint: str) -> None:
        """All folds are cut from the same data, also where it goes on another day."""
        folders.refuse_other_data(f"cross-validation {self.id}", self.read().data_fingerprint, fingerprint)
        self.update(packed=str(packed), data_fingerprint=fingerprint)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold it for this process, or tell that another one drives it."""
        with folders.held(self._claim, f"Cross-validation {self.id}"):
            yield

    @cached_property
    def _claim(self) -> Claim:
        return Claim(self.folder / ".busy")


def is_wanted(experiment: Experiment) -> bool:
    """Whether the experiment is to be trained once for each fold."""
    return experiment.training.folds is not None and experiment.training.fold is None


def fold_id(cross_validation: str, number: int, count: int) -> str:
    # With zeros in front, names stand in the order of the folds.
    return f"{cross_validation}-fold-{number:0{len(str(count))}d}-of-{count}"


def _of_fold(experiment: Experiment, number: int) -> Experiment:
    training = experiment.training.model_copy(update={"fold": number})
    return experiment.model_copy(update={"training": training})


def begin(
    experiment: Experiment, cross_validation_id: str | None = None, registry: Registry | None = None
) -> CrossValidation:
    """A new cross-validation, or the one to go on with, which must be of the same experiment."""
    registry = registry or plugins.installed()
    parse(experiment.to_data(), registry)  # a form or a notebook may not have held its fields to one another
    begun = CrossValidation(home.cross_validations() / (cross_validation_id or runs.new_id(experiment.name)))
    folders.refuse_bad_id("cross-validation", begun.id, _LONGEST_ID)
    if not begun.folder.exists():
        _create(begun, experiment)
    elif begun.experiment(registry).to_data() != experiment.to_data():
        raise RunError(
            f"Cross-validation {begun.id} is of another experiment. "
            f"Go on with it unchanged (--resume {begun.id}), or begin a new one."
        )
    return begun


def _create(begun: CrossValidation, experiment: Experiment) -> None:
    assert experiment.training.folds is not None
    record = FoldsRecord(
        id=begun.id,
        name=experiment.name,
        created=now(),
        experiment=experiment.to_data(),
        folds=experiment.training.folds,
        environment=environment(),
    )
    files.remove_unfinished(begun.folder)
    with files.atomic_folder(begun.folder) as temporary:
        files.write_json(temporary / RECORD, record.model_dump(mode="json"))


def keep(begun: CrossValidation, fold: Fold) -> FoldsRecord:
    """Write down what this fold came to, now that it is evaluated."""
    others = [result for result in begun.read().results if result.fold != fold.number]
    results = sorted([*others, result_of(fold)], key=lambda result: result.fold)
    return begun.update(results=tuple(results))


def conclude(begun: CrossValidation) -> FoldsRecord:
    """Write down what all folds came to together, and the report."""
    from histoflow.report.folds_page import write_folds_page

    record = begun.update(summary=summarise(begun.read().results))
    write_folds_page(begun.folder, record.model_dump(mode="json"))
    return record


def result_of(fold: Fold) -> FoldResult:
    """What the run of a fold came to; it has been evaluated."""
    from histoflow.data.store import PackedStore

    record, history, metrics = fold.run.read(), fold.run.history(), fold.run.metrics()
    if not history or metrics is None or record.best is None or record.packed is None:
        raise RunError(f"Run {fold.run.id} is not whole. Delete {fold.run.folder} to train that fold anew.")
    kept = history[int(record.best["epoch"]) - 1]
    splits = PackedStore(Path(record.packed)).manifest.splits
    return FoldResult(
        fold=fold.number,
        run=fold.run.id,
        train_images=splits["train"].images,
        val_images=splits["val"].images,
        test_images=int(metrics["images"]),
        best_epoch=int(record.best["epoch"]),
        epochs=len(history),
        val=_validated(kept),
        test={name: score["value"] for name, score in metrics["scores"].items()},
    )


def _validated(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of the validation, the loss first."""
    names = [name for name in entry if name.startswith("val_")]
    return {name.removeprefix("val_"): entry[name] for name in names}


# ── Being found ─────────────────────────────────────────────────────────────────────────────────


def listing() -> list[CrossValidation]:
    """All of them, oldest first."""
    return [CrossValidation(folder) for folder in folders.listing(home.cross_validations(), RECORD)]


def find(reference: str) -> CrossValidation | None:
    """The one of this folder, this id, or this unmistakable part of one; None where that names a run.

    ``latest`` names one whose folds are the newest runs. The id of a fold's run names that run.
    """
    if (Path(reference) / RECORD).is_file():
        return CrossValidation(Path(reference).absolute())
    everyone, ids = listing(), [run.id for run in runs.listing(home.runs())]
    if reference == "latest":
        newest = everyone[-1] if everyone else None
        return newest if newest and (not ids or _is_of(newest, ids[-1]) or newest.id > ids[-1]) else None
    fitting = [one for one in everyone if reference in one.id]
    exact = [one for one in fitting if one.id == reference]
    if len(exact or fitting) != 1:
        return None
    (found,) = exact or fitting
    others = [name for name in ids if reference in name and not _is_of(found, name)]
    return None if others and not exact else found


def _is_of(one: CrossValidation, run_id: str) -> bool:
    return run_id.startswith(f"{one.id}-fold-")
