"""Predicts images with a run's best model; what it finds goes into a Parquet table, piece by piece.

Threads decode while the network works; of the images only those of the next few batches are in memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import progress
from histoflow.components import Transform
from histoflow.data import incoming
from histoflow.data.incoming import Incoming
from histoflow.data.pixels import Pixels
from histoflow.data.predictions import PredictionTable, table_at
from histoflow.data.store import Manifest, PackedStore
from histoflow.engine import checkpoint, inference
from histoflow.engine.checkpoint import Checkpoint
from histoflow.engine.device import cores
from histoflow.engine.inference import Tta
from histoflow.engine.modes import computing
from histoflow.engine.predict import outputs_of
from histoflow.errors import CheckpointError, DataError, DeviceMemoryError, UserError
from histoflow.evaluating import store_of, workshop_of
from histoflow.experiment import Experiment
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.workshop import Workshop

PredictableSplit = Literal["train", "val"]

_CPU_BATCH, _CPU_BATCH_BYTES = 256, 2**24
_GPU_BATCH, _GPU_BATCH_BYTES = 4096, 2**28
"""Bytes of a batch's pixels as floats; its features take many times as much."""
_MOST_THREADS = 16


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be predicted, how, and into which file."""

    out: Path
    images: Sequence[Path] = ()
    """Image files and folders of them."""
    split: PredictableSplit | None = None
    """In their place the images of this packed split."""
    tta: Tta = "none"
    device: str | None = None
    batch_size: int | None = None
    """None takes one that suits the device."""
    overwrite: bool = False

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
        if bool(self.images) == bool(self.split):
            raise UserError("Name either image files and folders, or a split (train, val).")
        if self.out.exists() and not self.overwrite:
            raise UserError(
                f"The file for the predictions must be a new one. {self.out} exists. "
                f"Name another, or allow it to be replaced (--overwrite)."
            )


def predict_run(experiment: Experiment, run: Run, wanted: Wanted, registry: Registry) -> tuple[int, int]:
    """How many images there were, and how many of them could not be predicted."""
    store = store_of(run)
    workshop = workshop_of(experiment, run, store, registry, wanted.device)
    _refuse_turning(wanted.tta, store.manifest)
    model = workshop.model(weights_follow=True)
    with run.lock():  # a training under way would take the checkpoint away
        best = _load_best(run, model)
    size = wanted.batch_size or _batch_size(workshop.device, store.manifest)
    told = {"run": run.id, "model": best.model_hash, "tta": wanted.tta}
    classes, several = store.manifest.classes, store.manifest.task == "multilabel"
    with (
        computing(workshop.plan, workshop.device, deterministic=experiment.compute.deterministic),
        table_at(wanted.out, classes, {**told, "classes": json.dumps(classes)}, several=several) as table,
    ):
        predictor = _Predictor(workshop, model, wanted.tta)
        _fill(table, predictor, *_incoming(wanted, workshop, store, size), size)
    return table.rows, table.problems


def _load_best(run: Run, model: nn.Module) -> Checkpoint:
    best = checkpoint.find(run.checkpoints, "best")
    if best is None:
        raise CheckpointError(
            f"Run {run.id} has no checkpoint to predict with. Train it first: "
            f"histoflow train --resume {run.id}"
        )
    checkpoint.load_weights(best, model)
    return best


def _refuse_turning(tta: Tta, manifest: Manifest) -> None:
    height, width = manifest.size
    if tta == "dihedral" and height != width:
        raise UserError(
            f"tta may be dihedral only where images are square, for they are turned by right angles. "
            f"Got {width}×{height} pixels. Use flips or none."
        )


def _batch_size(device: torch.device, manifest: Manifest) -> int:
    floats = 4 * manifest.channels * math.prod(manifest.size)
    on_cpu = device.type == "cpu"
    most, room = (_CPU_BATCH, _CPU_BATCH_BYTES) if on_cpu else (_GPU_BATCH, _GPU_BATCH_BYTES)
    return max(1, min(most, room // floats))


def _incoming(
    wanted: Wanted, workshop: Workshop, store: PackedStore, batch_size: int
) -> tuple[int, Generator[Incoming, None, None]]:
    """How many images there are, and the images."""
    if wanted.split:
        split = store.split(wanted.split)
        return len(split), incoming.packed(split)
    chain = [workshop.registry.get(Transform, one.name).build(one) for one in workshop.experiment.preprocess]
    height, width = store.manifest.size
    read = incoming.Reader(cast("Any", chain), (height, width, store.manifest.channels))
    paths = incoming.image_files(wanted.images)
    threads = min(_MOST_THREADS, cores())
    return len(paths), incoming.decoded(paths, read, threads=threads, ahead=2 * batch_size)


def _fill(
    table: PredictionTable,
    predictor: _Predictor,
    total: int,
    images: Generator[Incoming, None, None],
    batch_size: int,
) -> None:
    with progress.track("Predicting", total=total) as advance, closing(images):
        while batch := list(islice(images, batch_size)):
            pixels = [one.image for one in batch if one.image is not None]
            if not pixels and not table.rows:
                _refuse_other_size(batch)
            probabilities = predictor.probabilities(np.stack(pixels)) if pixels else predictor.of_none
            table.add([one.name for one in batch], [one.problem for one in batch], probabilities)
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


class _Predictor:
    """The network, made ready for inference, from stored pixels to probabilities."""

    def __init__(self, workshop: Workshop, model: nn.Module, tta: Tta) -> None:
        self._workshop, self._dtype = workshop, workshop.plan.dtype
        manifest = workshop.manifest
        self._pixels = Pixels(manifest.mean, manifest.std, workshop.device)
        self._views = inference.views(tta)
        self._network = inference.prepare(
            model,
            workshop.device,
            (manifest.channels, *manifest.size),
            channels_last=workshop.plan.channels_last.value,
            blocked=None if self._dtype is None else False,
        )
        self._parts = 1
        self.of_none = np.empty((0, len(manifest.classes)))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Images × classes; a batch that is too large for the device goes through it in parts."""
        while True:
            parts = np.array_split(images, min(self._parts, len(images)))
            try:
                return np.concatenate([self._of(part) for part in parts])
            except torch.OutOfMemoryError as error:
                self._use_smaller_parts(len(images), error)

    def _use_smaller_parts(self, count: int, error: torch.OutOfMemoryError) -> None:
        if self._parts >= count:
            raise DeviceMemoryError(
                f"Not even one image fits into the memory of {self._workshop.device}: {error}. "
                f"Free some, or predict on another device: --device cpu."
            ) from error
        self._parts *= 2
        progress.say(f"Memory is short: batches go through the network in {self._parts} parts.")

    @torch.inference_mode()
    def _of(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        stored = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._workshop.device)
        normalised = self._pixels.normalised_bytes(stored)
        seen = [self._linked(view(normalised)) for view in self._views]
        mean: NDArray[np.float64] = np.mean(seen, axis=0)
        return mean

    def _linked(self, images: Tensor) -> NDArray[np.float64]:
        return self._workshop.probabilities(outputs_of(self._network, images, self._dtype).cpu())
