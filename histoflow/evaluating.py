"""Evaluates a run: its best model meets the sealed test split, and what came of it is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from histoflow import drift, files, progress, seeds
from histoflow.components import Results, Score
from histoflow.data.store import Manifest, PackedStore, SplitReader
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.modes import computing
from histoflow.engine.predict import predict
from histoflow.errors import CheckpointError, DataError, DeviceMemoryError, RunError
from histoflow.evaluation import by_group, fitting, further, optional, predictions
from histoflow.evaluation import scores as scoring
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.intervals import with_intervals
from histoflow.evaluation.predictions import Predictions
from histoflow.experiment import Experiment
from histoflow.explanation import looking
from histoflow.planning import USUAL_BATCH, plan_for
from histoflow.registry import Registry
from histoflow.robustness import degradation
from histoflow.runs import Run
from histoflow.workshop import Workshop


def evaluate_run(
    experiment: Experiment, run: Run, reason: str, registry: Registry, device: str | None = None
) -> dict[str, Any]:
    """Test figures of the run's best checkpoint; the caller holds the run's lock."""
    best = _best_of(run)
    store = store_of(run)
    workshop = workshop_of(experiment, run, store, registry, device)
    model = workshop.model(weights_follow=True)
    checkpoint.load_weights(best, model)
    store.verify(["val", "test"])
    validation = _said(workshop, model, store.split("val"), run, best, "Predicting validation")
    predictions.save(run.folder, validation, predictions.VALIDATION)
    fitted = fitting.fit(validation, experiment.evaluation, best.model_hash)
    fitted.save(run.folder)
    _refer(store, validation, fitted, experiment, run)
    run.record_opening(reason, best.model_hash)
    test = store.unseal_test()
    begin = time.perf_counter()
    kept = _said(workshop, model, test, run, best, "Evaluating")
    speed = len(test) / (time.perf_counter() - begin)
    data = _figures(workshop, kept, validation, fitted, best)
    run.write_speed(speed, machine_of(workshop.device).name, best.model_hash)
    predictions.save(run.folder, kept)
    by_group.save(run.folder, experiment.evaluation, kept, fitted)
    _write(run, data | _unlooked(experiment, run))
    mark_evaluated(run)
    with _computing(workshop):
        data |= {
            "robustness": _looked(
                "Robustness was not looked at",
                lambda: degradation.look(workshop, model, test, kept, fitted, run.folder),
            ),
            "explained": _looked(
                "Where the network looked was not found out",
                lambda: looking.look(workshop, model, store, test, kept, fitted, run.folder),
            ),
        }
    _write(run, data)
    return data


def _said(
    workshop: Workshop,
    model: torch.nn.Module,
    split: SplitReader,
    run: Run,
    best: checkpoint.Checkpoint,
    doing: str,
) -> Predictions:
    with _computing(workshop):
        found = predicted(workshop, model, split, doing)
    _refuse_no_numbers(found, run)
    return replace(found, model=best.model_hash)


def _computing(workshop: Workshop) -> AbstractContextManager[None]:
    deterministic = workshop.experiment.compute.deterministic
    return computing(workshop.plan, workshop.device, deterministic=deterministic)


def _refuse_no_numbers(found: Predictions, run: Run) -> None:
    bad = np.any(~np.isfinite(found.probabilities), axis=1)
    if not bad.any():
        return
    first = int(bad.argmax())
    source = f"image {first}" if found.sources is None else f"image {first}, {found.sources[first]}"
    raise DataError(
        f"The network of run {run.id} must give finite numbers. For {bad.sum():,} of {len(bad):,} images it "
        f"does not; the first is {source}. Evaluate it on another device (--device cpu), or train it anew in "
        f"higher precision (compute.precision=fp32)."
    )


def _figures(
    workshop: Workshop,
    kept: Predictions,
    validation: Predictions,
    fitted: Fitted,
    best: checkpoint.Checkpoint,
) -> dict[str, Any]:
    scores, intervals = _scored(workshop, kept)
    experiment, registry = workshop.experiment, workshop.registry
    return {
        "split": "test",
        "images": len(kept.labels),
        "epoch": best.epoch,
        "model": best.model_hash,
        **scoring.to_json(scores, workshop.manifest.classes),
        "intervals": intervals,
        **further.look(experiment, workshop.metrics, kept, validation, fitted, registry),
    }


def _write(run: Run, data: dict[str, Any]) -> None:
    """After the other files, so that figures are never of a model whose files are not all there."""
    files.write_json(run.folder / "metrics.json", data)


def mark_evaluated(run: Run) -> None:
    """Of a run whose training has ended, and that has its figures."""
    if run.read().state == "trained":
        run.update(state="evaluated")


# ── What is looked at once the figures are safe ─────────────────────────────────────────────────


def _unlooked(experiment: Experiment, run: Run) -> dict[str, Any]:
    """The sections as they stand until they are made, and where the process is ended before."""
    asked = experiment.evaluation
    note = (
        f"The evaluation ended before this was looked at. Evaluate the run again: histoflow evaluate {run.id}"
    )
    return {
        "robustness": {"note": note} if asked.robustness else None,
        "explained": {"note": note} if asked.gallery or asked.embedding else None,
    }


def _looked(missed: str, look: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """A section; where it cannot be made, the reason in its place."""
    try:
        return look()
    except optional.FAILURES as error:
        return {"note": optional.noted(missed, error)}


# ── What belongs to a run ───────────────────────────────────────────────────────────────────────


def _refer(
    store: PackedStore, validation: Predictions, fitted: Fitted, experiment: Experiment, run: Run
) -> None:
    """Keep what validation looks like, for new images to be held against."""
    seed = seeds.derive(experiment.seed, seeds.Stream.RESAMPLES, 1)
    classes = store.manifest.classes
    drift.write_reference(run.folder, store.split("val"), validation, fitted, classes, seed)


def _best_of(run: Run) -> checkpoint.Checkpoint:
    best = checkpoint.find(run.checkpoints, "best")
    if best is None:
        raise CheckpointError(
            f"Run {run.id} has no checkpoint to evaluate. Train it first: histoflow train --resume {run.id}"
        )
    return best


def workshop_of(
    experiment: Experiment, run: Run, store: PackedStore, registry: Registry, device: str | None = None
) -> Workshop:
    """For a run that has been trained: it computes as training did, as far as the device can."""
    return workshop_with(experiment, run, store.manifest, registry, device)


def workshop_with(
    experiment: Experiment, run: Run, manifest: Manifest, registry: Registry, device: str | None = None
) -> Workshop:
    """The same where the images themselves are not needed."""
    chosen = choose_device(device or experiment.compute.device)
    former = run.read().plan
    plan = plan_for(experiment, machine_of(chosen), manifest, former)
    batch_size = former["batch_size"] if former else USUAL_BATCH
    return Workshop(experiment, registry, manifest, chosen, plan, batch_size)


def figures_of_best(run: Run) -> dict[str, Any] | None:
    """The content of metrics.json, if it is of the model that is the best one now."""
    metrics, best = run.metrics(), checkpoint.find(run.checkpoints, "best")
    return metrics if metrics and best and metrics["model"] == best.model_hash else None


def store_of(run: Run) -> PackedStore:
    record = run.read()
    if record.packed is None:
        raise RunError(f"Run {run.id} was never trained. Train it first: histoflow train --resume {run.id}")
    if not Path(record.packed).is_dir():
        raise DataError(
            f"The packed data of run {run.id} are gone: there is no {record.packed}. "
            f"Pack them anew: histoflow train --resume {run.id}"
        )
    store = PackedStore(Path(record.packed))
    if store.manifest.fingerprint != record.data_fingerprint:
        raise DataError(f"{store.folder} no longer holds the data that run {run.id} was trained on.")
    return store


def predicted(
    workshop: Workshop, model: torch.nn.Module, split: SplitReader, doing: str = "Evaluating"
) -> Predictions:
    """What the model says of every image of a split."""
    batches = workshop.eval_batches(split, residence="host")  # each is looked at only once
    with progress.track(doing, total=len(split)) as advance:
        try:
            outputs, labels = predict(model, progress.counted(batches, advance), workshop.plan.dtype)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"Batches of {workshop.batch_size} images do not fit into the memory of "
                f"{workshop.device}: {error}. Free some, or evaluate on another device: --device cpu."
            ) from error
    return Predictions(
        probabilities=workshop.probabilities(outputs),
        labels=labels.numpy(),
        groups=split.groups,
        sources=split.sources,
    )


def _scored(workshop: Workshop, kept: Predictions) -> tuple[dict[str, Score], dict[str, Any]]:
    """Every metric's score with its intervals, and how these came about."""
    metrics, seed = workshop.metrics, workshop.experiment.seed
    scores = scoring.score_all(metrics, kept.probabilities, kept.labels)
    return with_intervals(
        metrics,
        scores,
        kept.probabilities,
        kept.labels,
        kept.groups,
        seed=seeds.derive(seed, seeds.Stream.RESAMPLES),
    )


def results_of(run: Run) -> Results:
    """What reporters are told of an evaluated run, read from its folder."""
    metrics = run.metrics()
    if metrics is None:
        raise RunError(f"Run {run.id} has not been evaluated. Do that first: histoflow evaluate {run.id}")
    record = run.read()
    kept = predictions.load(run.folder, model=metrics["model"])
    return Results(
        folder=run.folder,
        run={**record.model_dump(mode="json"), "test_openings": run.openings()},
        data=store_of(run).manifest.model_dump(mode="json"),
        history=run.history(),
        metrics=scoring.from_json(metrics),
        labels=kept.labels,
        probabilities=kept.probabilities,
        intervals=metrics.get("intervals", {}),
        evaluation=metrics,
    )
