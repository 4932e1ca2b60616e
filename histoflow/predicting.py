"""Predicts images with a run's best model; what it finds goes into a table, piece by piece.

Threads decode while the network works; of the images only those of the next few batches are in memory.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import nn

from histoflow import drift, progress
from histoflow.answering import NOT_FINITE, answers_of, bare, finite
from histoflow.components import Transform
from histoflow.data import incoming, listed
from histoflow.data.appearance import measured
from histoflow.data.incoming import Image, Incoming
from histoflow.data.predictions import Answers, PredictionTable, refuse_taken, sink_of, table_at
from histoflow.data.store import Manifest, read_manifest
from histoflow.engine import checkpoint
from histoflow.engine.checkpoint import Checkpoint
from histoflow.engine.device import cores
from histoflow.engine.inference import Tta
from histoflow.engine.modes import computing
from histoflow.errors import CheckpointError, DataError, StorageError, UserError
from histoflow.evaluating import store_of, workshop_with
from histoflow.evaluation import fitting
from histoflow.evaluation.fitting import Fitted
from histoflow.experiment import Experiment
from histoflow.predictor import Predictor, refuse_turning, terms_of
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.workshop import Workshop

PredictableSplit = Literal["train", "val"]

_MOST_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be predicted, how, and into which file."""

    out: Path
    images: Sequence[Path] = ()
    """Image files and folders of them, or one list of images."""
    split: PredictableSplit | None = None
    """In their place the images of this packed split."""
    tta: Tta = "none"
    device: str | None = None
    batch_size: int | None = None
    """None takes one that suits the device."""
    overwrite: bool = False
    raw: bool = False
    """Leave probabilities as the network gives them, and tell the likeliest class."""

    def __post_init__(self) -> None:
        if self.tta not in get_args(Tta):
            raise UserError(f"tta must be one of {', '.join(get_args(Tta))}. Got {self.tta}.")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"The batch size must be auto or at least 1. Got {self.batch_size}.")
        if self.split is not None and self.split not in get_args(PredictableSplit):
            raise UserError(
                f"The split must be one of {', '.join(get_args(PredictableSplit))}. Got {self.split}. "
                f"The test split is sealed; 'histoflow evaluate' keeps its predictions in predictions.npz."
            )
        sink_of(self.out)
        if bool(self.images) == bool(self.split):
            raise UserError("Name either image files and folders, or a split (train, val).")
        if self.out.exists() and not self.overwrite:
            raise UserError(
                f"The file for the predictions must be a new one. {self.out} exists. "
                f"Name another, or allow it to be replaced (--overwrite)."
            )


@dataclass(frozen=True)
class Done:
    """What came of it."""

    images: int
    problems: int
    """Images without a prediction."""
    kept: Path | None
    """The statistics that drift is told from; None where there is nothing to hold them against."""


def predict_run(experiment: Experiment, run: Run, wanted: Wanted, registry: Registry) -> Done:
    """Predict what is wanted with the best model of a run, or with a version of a model."""
    manifest = manifest_of(run)
    workshop = workshop_with(experiment, run, manifest, registry, wanted.device)
    terms = terms_of(workshop)
    refuse_turning(wanted.tta, terms.size)
    model = workshop.model(weights_follow=True)
    with run.lock():  # a training under way would take the checkpoint away
        best = _load_best(run, model)
        fitted, reference = _known(run, wanted, best.model_hash, manifest)
    size = wanted.batch_size or terms.batch_size
    arriving = _arriving(wanted, run, workshop, size)
    classes = manifest.classes
    told = {
        "run": run.id, "model": best.model_hash, "tta": wanted.tta, "classes": json.dumps(classes)
    }  # fmt: skip
    keeper = drift.Keeper(reference, classes, wanted.tta) if reference else None
    with (
        computing(workshop.plan, workshop.device, deterministic=experiment.compute.deterministic),
        table_at(wanted.out, classes, told, arriving.columns) as table,
    ):
        judge = _Judge(
            predictor=Predictor(terms, model, wanted.tta),
            fitted=fitted,
            shown=bare(best.model_hash, manifest.task) if wanted.raw else fitted,
            keeper=keeper,
        )
        _fill(table, judge, arriving, size)
    return Done(table.rows, table.problems, _kept(keeper, run, wanted.out, table) if keeper else None)


def _kept(keeper: drift.Keeper, run: Run, out: Path, table: PredictionTable) -> Path | None:
    """None where it cannot be written: the table stands all the same."""
    try:
        return keeper.save(run.predictions, out, table.rows, table.problems)
    except (OSError, StorageError) as error:
        reason = str(error).rstrip(".")
        progress.say(
            f"{out} is written, but drift cannot be told from it: {reason}. To change that, make "
            f"{run.predictions} a folder that can be written to, and predict again."
        )
        return None


def manifest_of(run: Run) -> Manifest:
    """That of the data it was trained on; a version of a model has its own."""
    own = (run.folder / "manifest.json").is_file()
    return read_manifest(run.folder) if own else store_of(run).manifest


def _load_best(run: Run, model: nn.Module) -> Checkpoint:
    best = checkpoint.find(run.checkpoints, "best")
    if best is None:
        raise CheckpointError(
            f"Run {run.id} has no checkpoint to predict with. Train it first: "
            f"histoflow train --resume {run.id}"
        )
    checkpoint.load_weights(best, model)
    return best


def _known(
    run: Run, wanted: Wanted, model_hash: str, manifest: Manifest
) -> tuple[Fitted, drift.Reference | None]:
    """What was fitted on validation and what that looks like, as far as both are of this very model."""
    fitted, reference = fitting.load(run.folder), drift.reference_in(run.folder)
    if fitted is None or fitted.model != model_hash:
        progress.say(
            f"{run.id} was not evaluated since it was trained: probabilities are as the network gives them, "
            f"and nothing is kept to tell drift from. To change that: histoflow evaluate {run.id}"
        )
        return bare(model_hash, manifest.task), None
    _refuse_unfit(run, fitted, len(manifest.classes))
    if wanted.split or reference is None or reference.model != model_hash:
        reference = None
    return fitted, reference


def _refuse_unfit(run: Run, fitted: Fitted, classes: int) -> None:
    if problem := fitted.problem_with(classes):
        raise DataError(
            f"{run.folder / fitting.FILE} is damaged: {problem}. "
            f"Evaluate the run again: histoflow evaluate {run.id}"
        )


# ── The images ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Arriving:
    total: int
    images: Generator[Incoming, None, None]
    carried: pa.Table | None = None
    """Further columns of a list of images."""

    @property
    def columns(self) -> Sequence[str]:
        return self.carried.column_names if self.carried else ()

    def carried_of(self, rows: slice) -> pa.Table | None:
        return self.carried.slice(rows.start, rows.stop - rows.start) if self.carried else None


def _arriving(wanted: Wanted, run: Run, workshop: Workshop, batch_size: int) -> _Arriving:
    if wanted.split:
        split = store_of(run).split(wanted.split)
        return _Arriving(len(split), incoming.packed(split))
    chain = [workshop.registry.get(Transform, one.name).build(one) for one in workshop.experiment.preprocess]
    height, width = workshop.manifest.size
    read = incoming.Reader(cast("Any", chain), (height, width, workshop.manifest.channels))
    how: Any = {"threads": min(_MOST_THREADS, cores()), "ahead": 2 * batch_size}
    lists = [place for place in wanted.images if listed.is_list(place)]
    if not lists:
        paths = incoming.image_files(wanted.images)
        return _Arriving(len(paths), incoming.decoded(paths, read, **how))
    if len(wanted.images) > 1:
        raise UserError(
            f"A list of images must be named alone, without other images. Got {lists[0]} among "
            f"{len(wanted.images)}. Predict the others apart."
        )
    found = listed.read(lists[0])
    refuse_taken(found.columns, workshop.manifest.classes)
    images = incoming.decoded(found.paths, listed.ReadListed(found.folder, read), **how)
    return _Arriving(len(found.paths), images, found.carried)


# ── Predicting ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Judge:
    """From stored pixels to what is said of each image, and to what is kept of them."""

    predictor: Predictor
    fitted: Fitted
    shown: Fitted
    """What of it goes into the table."""
    keeper: drift.Keeper | None

    def answers(
        self, images: Sequence[NDArray[np.uint8]], helper: Executor
    ) -> tuple[Answers, NDArray[np.bool_]]:
        """To those that there are answers to, and which these are."""
        if not images:
            return answers_of(self.shown, self.predictor.of_none), np.empty(0, bool)
        together = np.stack(images)
        looks = helper.submit(measured, together) if self.keeper else None  # while the network works
        probabilities = self.predictor.probabilities(together)
        told = finite(probabilities)
        if self.keeper and looks:
            some = {name: values[told] for name, values in looks.result().items()}
            self.keeper.add(some, answers_of(self.fitted, probabilities[told]))
        return answers_of(self.shown, probabilities[told]), told


def _fill(table: PredictionTable, judge: _Judge, arriving: _Arriving, batch_size: int) -> None:
    with (
        progress.track("Predicting", total=arriving.total) as advance,
        closing(arriving.images) as images,
        ThreadPoolExecutor(1, "measure") as helper,
    ):
        while batch := list(islice(images, batch_size)):
            usable = [place for place, one in enumerate(batch) if one.image is not None]
            if not usable and not table.rows:
                _refuse_other_size(batch)
            answers, told = judge.answers([cast("Image", batch[place].image) for place in usable], helper)
            problems = [one.problem for one in batch]
            for place in np.array(usable, np.int64)[~told]:
                problems[place] = NOT_FINITE
            carried = arriving.carried_of(slice(table.rows, table.rows + len(batch)))
            table.add([one.name for one in batch], problems, answers, carried)
            advance(len(batch))


def _refuse_other_size(batch: Sequence[Incoming]) -> None:
    """Not one image of the first batch fits: these are images of another kind."""
    for one in batch:
        if one.other_size:
            raise DataError(
                f"Images must be of the training images' size after the run's preprocessing. Of the first "
                f"{len(batch)} none is; of {one.name}: {one.problem}. Cut or resize them as those were, or "
                f"train with {{name: resize, …}} in preprocess."
            )
