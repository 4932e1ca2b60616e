"""Writes a run's best model as a bundle, each form of it checked against the run's own network."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoflow import files, progress
from histoflow.bundles import bundle, describing
from histoflow.bundles.bundle import Form, Manifest
from histoflow.bundles.describing import Source
from histoflow.bundles.loading import load_model
from histoflow.data.store import Manifest as Data
from histoflow.data.store import SplitReader
from histoflow.engine import checkpoint, exchange
from histoflow.errors import BundleError, CheckpointError, DataError, UserError
from histoflow.evaluating import figures_of_best, store_of, workshop_with
from histoflow.evaluation import fitting
from histoflow.experiment import Experiment
from histoflow.predicting import manifest_of
from histoflow.registry import Registry
from histoflow.runs import Run

TOLERANCE = 1e-4
"""Of a probability; rounding in float32 is far below it."""
_FEWEST_IMAGES, _MOST_IMAGES, _BYTES = 9, 64, 2**25
"""How many images a form is checked on: the more, the smaller they are."""
_Write = Callable[[Any, Path], str]
_Run = Callable[[Path, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Where the bundle goes, and what is in it beside the weights."""

    out: Path
    onnx: bool = True
    torch_export: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.out.is_dir():
            raise UserError(f"The bundle must be a file. {self.out} is a folder. Name a file in it.")
        if self.out.exists() and not self.overwrite:
            raise UserError(
                f"The bundle must be a new file. {self.out} exists. "
                f"Name another, or allow it to be replaced (--overwrite)."
            )
        if self.onnx:
            exchange.refuse_without_onnx()


def export_run(experiment: Experiment, run: Run, wanted: Wanted, registry: Registry) -> Manifest:
    """Write the bundle of a run's best model; where it fails, nothing is left behind."""
    with run.lock():  # a training under way would take the checkpoint away
        return export(of_run(experiment, run, registry), wanted)


def of_run(experiment: Experiment, run: Run, registry: Registry) -> Source:
    """The best model of a run; the caller holds the run's lock."""
    manifest = manifest_of(run)
    best = checkpoint.find(run.checkpoints, "best")
    if best is None:
        raise CheckpointError(
            f"Run {run.id} has no checkpoint to export. Train it first: histoflow train --resume {run.id}"
        )
    workshop = workshop_with(experiment, run, manifest, registry, "cpu")
    network = workshop.model(weights_follow=True)
    checkpoint.load_weights(best, network)
    fitted = fitting.load(run.folder)
    images, are_real = _images(manifest, _validation(run))
    return Source(
        name=run.read().id,
        workshop=workshop,
        network=network,
        weights=best.folder / bundle.WEIGHTS,
        model_hash=best.model_hash,
        fitted=fitted if fitted and fitted.model == best.model_hash else None,
        metrics=figures_of_best(run),
        card=run.folder / bundle.CARD,
        images=images,
        are_real=are_real,
    )


def _validation(run: Run) -> SplitReader | None:
    """The packed images; None where they are gone, as those of an old version of a model may be."""
    try:
        return store_of(run).split("val")
    except DataError as error:
        progress.say(f"The forms are checked with random images. {error}")
        return None


def _images(data: Data, split: SplitReader | None) -> tuple[NDArray[np.uint8], bool]:
    """Images from all over the validation split; random ones where there is none."""
    shape = (*data.size, data.channels)
    count = min(_MOST_IMAGES, max(_FEWEST_IMAGES, _BYTES // math.prod(shape)))
    if not split:
        return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8), False
    places = np.unique(np.linspace(0, len(split) - 1, count).astype(np.int64))
    return np.asarray(split.gather(places)), True


def export(source: Source, wanted: Wanted) -> Manifest:
    """Write the bundle of any trained model."""
    if source.fitted is None or source.metrics is None:
        progress.say(
            f"Run {source.name} was not evaluated since it was trained: the bundle has no figures, and its "
            f"probabilities are not calibrated. Better: histoflow evaluate {source.name}"
        )
    expected = source.probabilities()
    with tempfile.TemporaryDirectory(prefix="histoflow-") as scratch:
        folder = Path(scratch)
        forms = dict(_forms(source, wanted, folder, expected))
        contents = {bundle.WEIGHTS: source.weights, **{name: folder / name for name in forms}}
        manifest = describing.manifest_of(source, forms)
        contents |= describing.texts(manifest, source.card, folder)
        hashes = {name: files.digest_of_file(path) for name, path in contents.items()}
        sealed = manifest.model_copy(update={"files": hashes}).sealed()
        with files.atomic_file(wanted.out) as temporary:
            bundle.write(temporary, sealed, contents)
            _check_loaded(source, temporary, expected)
    return sealed


# ── The forms, and how far they are from the original ───────────────────────────────────────────


def _forms(
    source: Source, wanted: Wanted, folder: Path, expected: NDArray[np.float64]
) -> Iterator[tuple[str, Form]]:
    """Those that are wanted, each written into the folder, and found to say what the network says."""
    if not (wanted.onnx or wanted.torch_export):
        return
    manifest = source.workshop.manifest
    whole = exchange.Graph(
        source.network.to(memory_format=torch.contiguous_format),
        source.link,
        manifest.mean,
        manifest.std,
        source.temperature,
        several=manifest.task == "multilabel",
    )
    with progress.track("Exporting", total=wanted.onnx + wanted.torch_export) as advance:
        program = exchange.traced(whole, (*manifest.size, manifest.channels))
        for name, write, run in _writers(source, wanted):
            by = write(program, folder / name)
            largest = _difference(source, partial(run, folder / name), expected)
            _refuse_far(name, largest)
            yield name, describing.form(source, largest, by)
            advance(1)


def _writers(source: Source, wanted: Wanted) -> Iterator[tuple[str, _Write, _Run]]:
    if wanted.torch_export:
        yield bundle.PROGRAM, exchange.write_program, exchange.run_program
    if wanted.onnx:
        told = {
            "histoflow.run": source.name,
            "histoflow.model": source.model_hash,
            "histoflow.classes": json.dumps(source.workshop.manifest.classes),
        }
        yield bundle.ONNX, partial(exchange.write_onnx, told=told), exchange.run_onnx


@torch.inference_mode()
def _difference(source: Source, said: Callable[[Tensor], Tensor], expected: NDArray[np.float64]) -> float:
    """The largest one of any probability, over batches of several sizes."""
    found = torch.cat([said(batch) for batch in _batches(torch.from_numpy(source.images))])
    return float(np.abs(found.double().numpy() - expected).max())


def _batches(images: Tensor) -> list[Tensor]:
    """Of several sizes, for a form that can do with batches of one alone is to be found out."""
    return [batch for batch in (images[:1], images[1:8], *torch.split(images[8:], 16)) if len(batch)]


def _check_loaded(source: Source, path: Path, expected: NDArray[np.float64]) -> None:
    """The bundle is what whoever gets it will make of it."""
    model = load_model(path, device="cpu", registry=source.workshop.registry)
    found = model.of_pixels(source.images).probabilities
    _refuse_far(bundle.WEIGHTS, float(np.abs(found - expected).max()))


def _refuse_far(name: str, largest: float) -> None:
    if not largest <= TOLERANCE:
        raise BundleError(
            f"{name} must say what the run's network says, to within {TOLERANCE:g} of each probability. It "
            f"is {largest:.2g} away, so nothing was written. {_WITHOUT.get(name, _REPORT)}"
        )


_WITHOUT = {
    bundle.ONNX: "A bundle without it is written with --no-onnx.",
    bundle.PROGRAM: "A bundle without it is written with --no-torch-export.",
}
_REPORT = "The network says something else each time that it is built: its plugin must be mended."
