"""The champion meets the test images of its challenger, and both are timed on the same device.

Images are decoded for each as it was trained, and dealt out as the challenger's data are. Those that the
champion was trained on, or chosen by, take no part, nor those that either began from had learned.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from histoflow import stages
from histoflow.data.store import Manifest, PackedStore, read_manifest
from histoflow.engine import checkpoint
from histoflow.engine.device import machine_of
from histoflow.engine.modes import computing
from histoflow.engine.predict import predict
from histoflow.errors import CheckpointError, DataError
from histoflow.evaluating import predicted, store_of, workshop_of
from histoflow.evaluation import fitting, predictions
from histoflow.evaluation.predictions import Predictions
from histoflow.retraining.gate import Pace
from histoflow.retraining.known_images import NewData, ancestry, known_to

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from histoflow.experiment import Experiment
    from histoflow.models import Version
    from histoflow.registry import Registry
    from histoflow.runs import Run
    from histoflow.stages import RawData
    from histoflow.workshop import Workshop

CHAMPION = "champion.npz"
"""What the champion says of the images that both are compared on, in the challenger's folder."""
_TIMED_BATCHES = 4
_TIMED_ROUNDS = 5


@dataclass(frozen=True)
class Met:
    """What both say of the same images, in the same order, as they come from the networks."""

    champion: Predictions
    challenger: Predictions
    notes: tuple[str, ...]
    """What a reader must know of how they came to be compared."""
    pace: Pace


def meet(
    run: Run,
    champion: Version,
    experiment: Experiment,
    raw: RawData,
    registry: Registry,
    device: str | None = None,
) -> Met:
    """Predict the challenger's test split with the champion, on the record.

    The caller holds the run's lock.
    """
    old = _champion(champion, experiment, raw, registry, device)
    old.store.verify(["test"])
    why = f"champion {champion.reference} against run {run.id}"
    run.record_opening(why, champion.record.model, of=champion.reference)
    learned = dict.fromkeys((*ancestry(champion.reference), *ancestry(run.read().warm_from)))
    known, notes = known_to(list(learned), old.store.unseal_test(), NewData(experiment, raw, registry))
    with old.computing():
        says = predicted(old.workshop, old.model, old.store.unseal_test(), f"Evaluating {champion.reference}")
    theirs, ours, left_out = matched(_at(says, ~known), predictions.load(run.folder))
    predictions.save(run.folder, theirs, CHAMPION)
    new = _contender(run, experiment, None, store_of(run), registry, device)
    return Met(theirs, ours, (*notes, *left_out), _pace(old, new))


def kept(run: Run) -> tuple[Predictions, Predictions]:
    """What the champion and the challenger said of the images that they were compared on."""
    theirs, ours, _ = matched(predictions.load(run.folder, CHAMPION), predictions.load(run.folder))
    return theirs, ours


def calibrated(said: Predictions, run: Run) -> Predictions:
    """With the temperature that was fitted for the run's model, as it is used."""
    fitted = fitting.load(run.folder)
    return said if fitted is None else replace(said, probabilities=fitted.calibrated(said.probabilities))


# ── The two ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Contender:
    """A model, and the images as it was trained to see them."""

    workshop: Workshop
    model: nn.Module
    store: PackedStore

    def computing(self) -> AbstractContextManager[None]:
        deterministic = self.workshop.experiment.compute.deterministic
        return computing(self.workshop.plan, self.workshop.device, deterministic=deterministic)


def _champion(
    champion: Version, experiment: Experiment, raw: RawData, registry: Registry, device: str | None
) -> _Contender:
    """On the challenger's data, preprocessed as the champion's were."""
    theirs = stages.experiment_of(champion.run, registry)
    manifest = read_manifest(champion.folder)
    packed = stages.pack(experiment.model_copy(update={"preprocess": theirs.preprocess}), raw, registry)
    store = PackedStore(packed.folder)
    _refuse_other_task(champion, manifest, store.manifest)
    return _contender(champion.run, theirs, manifest, store, registry, device)


def _contender(
    run: Run,
    experiment: Experiment,
    manifest: Manifest | None,
    store: PackedStore,
    registry: Registry,
    device: str | None,
) -> _Contender:
    """The ``manifest`` is that of the data it was trained on, whose mean and deviation it wants."""
    saved = checkpoint.find(run.checkpoints, "best")
    if saved is None:
        raise CheckpointError(f"{run.id} has no model to evaluate. Train and evaluate a run first.")
    workshop = workshop_of(experiment, run, store, registry, device)
    workshop = replace(workshop, manifest=manifest or store.manifest)
    model = workshop.model(weights_follow=True)
    checkpoint.load_weights(saved, model)
    return _Contender(workshop, model, store)


def _refuse_other_task(champion: Version, known: Manifest, new: Manifest) -> None:
    for what, was, now in (
        ("classes", ", ".join(known.classes), ", ".join(new.classes)),
        ("task", known.task, new.task),
        ("images", _shape(known), _shape(new)),
    ):
        if was != now:
            raise DataError(
                f"The champion {champion.reference} cannot be asked about these data: its {what} are {was}, "
                f"and theirs are {now}."
            )


def _shape(manifest: Manifest) -> str:
    height, width = manifest.size
    return f"{width}×{height} pixels of {manifest.channels} channels"


# ── The same images ─────────────────────────────────────────────────────────────────────────────


def matched(theirs: Predictions, ours: Predictions) -> tuple[Predictions, Predictions, list[str]]:
    """What both predicted, in one order; and in words what only one of them did."""
    if theirs.sources is None or ours.sources is None:
        raise DataError("Predictions must name their images, to be matched. Evaluate the run again.")
    _, at_theirs, at_ours = np.intersect1d(theirs.sources, ours.sources, return_indices=True)
    if not len(at_ours):
        raise DataError("There is no test image that the champion does not know and both can predict.")
    order = np.argsort(at_ours)
    notes = [
        f"{missing:,} test images of the {whose} take no part: the other one has none of that name."
        for whose, missing in (
            ("champion", len(theirs.sources) - len(order)),
            ("challenger", len(ours.sources) - len(order)),
        )
        if missing
    ]
    return _at(theirs, at_theirs[order]), _at(ours, at_ours[order]), notes


def _at(said: Predictions, places: NDArray[np.bool_] | NDArray[np.int64]) -> Predictions:
    return Predictions(
        probabilities=said.probabilities[places],
        labels=said.labels[places],
        groups=None if said.groups is None else said.groups[places],
        sources=None if said.sources is None else said.sources[places],
    )


# ── How fast they are ───────────────────────────────────────────────────────────────────────────


def _pace(old: _Contender, new: _Contender) -> Pace:
    """In turns, so that what else the machine does befalls both; the fastest round of each counts."""
    rounds = [(_timed(old), _timed(new)) for _ in range(_TIMED_ROUNDS)]
    champion, challenger = (min(times) for times in zip(*rounds, strict=True))
    return Pace(champion=champion, challenger=challenger, device=machine_of(new.workshop.device).name)


def _timed(one: _Contender) -> float:
    """Milliseconds that the network takes for an image of the validation split."""
    split = one.store.split("val")
    batches = list(islice(one.workshop.eval_batches(split, residence="host"), _TIMED_BATCHES))
    with one.computing():
        begin = time.perf_counter()
        predict(one.model, batches, one.workshop.plan.dtype)
        return 1000 * (time.perf_counter() - begin) / sum(len(labels) for _, labels in batches)
