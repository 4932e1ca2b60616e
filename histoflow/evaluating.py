"""Evaluates a run: its best model meets the sealed test split, and what came of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from histoflow import files, progress
from histoflow.components import Results
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.engine.device import choose_device, machine_of
from histoflow.engine.modes import computing
from histoflow.engine.predict import predict
from histoflow.errors import CheckpointError, DataError, DeviceMemoryError, RunError
from histoflow.evaluation import scores as scoring
from histoflow.experiment import Experiment
from histoflow.planning import USUAL_BATCH, plan_for
from histoflow.registry import Registry
from histoflow.runs import Run
from histoflow.workshop import Workshop


def evaluate_run(
    experiment: Experiment, run: Run, reason: str, registry: Registry, device: str | None = None
) -> dict[str, Any]:
    """Test figures of the run's best checkpoint; the caller holds the run's lock."""
    best = checkpoint.find(run.checkpoints, "best")
    if best is None:
        raise CheckpointError(
            f"Run {run.id} has no checkpoint to evaluate. Train it first: histoflow train --resume {run.id}"
        )
    store = store_of(run)
    workshop = workshop_of(experiment, run, store, registry, device)
    model = workshop.model(weights_follow=True)
    checkpoint.load_weights(best, model)
    store.verify(["test"])
    run.record_opening(reason, best.model_hash)
    with computing(workshop.plan, workshop.device, deterministic=experiment.compute.deterministic):
        probabilities, labels = _predict(workshop, model, store)
    scores = scoring.score_all(workshop.metrics, probabilities, labels)
    data = {
        "split": "test",
        "images": len(labels),
        "epoch": best.epoch,
        "model": best.model_hash,
        **scoring.to_json(scores, store.manifest.classes),
    }
    _save_predictions(run.folder / "predictions.npz", probabilities, labels)
    files.write_json(run.folder / "metrics.json", data)
    if run.read().state == "trained":
        run.update(state="evaluated")
    return data


def workshop_of(
    experiment: Experiment, run: Run, store: PackedStore, registry: Registry, device: str | None = None
) -> Workshop:
    """For a run that has been trained: it computes as training did, as far as the device can."""
    chosen = choose_device(device or experiment.compute.device)
    former = run.read().plan
    plan = plan_for(experiment, machine_of(chosen), store.manifest, former)
    batch_size = former["batch_size"] if former else USUAL_BATCH
    return Workshop(experiment, registry, store.manifest, chosen, plan, batch_size)


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


def _predict(workshop: Workshop, model: torch.nn.Module, store: PackedStore) -> tuple[Any, Any]:
    batches = workshop.eval_batches(store.unseal_test(), residence="host")  # each is looked at only once
    with progress.track("Evaluating", total=store.manifest.splits["test"].images) as advance:
        try:
            outputs, labels = predict(model, progress.counted(batches, advance), workshop.plan.dtype)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(
                f"Batches of {workshop.batch_size} images do not fit into the memory of "
                f"{workshop.device}: {error}. Free some, or evaluate on another device: --device cpu."
            ) from error
    return workshop.probabilities(outputs), labels.numpy()


def _save_predictions(path: Path, probabilities: Any, labels: Any) -> None:
    with files.atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, probabilities=probabilities, labels=labels)


def results_of(run: Run) -> Results:
    """What reporters are told of an evaluated run, read from its folder."""
    metrics = run.metrics()
    if metrics is None:
        raise RunError(f"Run {run.id} has not been evaluated. Do that first: histoflow evaluate {run.id}")
    record = run.read()
    with np.load(run.folder / "predictions.npz", allow_pickle=False) as predictions:
        probabilities, labels = predictions["probabilities"], predictions["labels"]
    return Results(
        folder=run.folder,
        run={**record.model_dump(mode="json"), "test_openings": run.openings()},
        data=store_of(run).manifest.model_dump(mode="json"),
        history=run.history(),
        metrics=scoring.from_json(metrics),
        labels=labels,
        probabilities=probabilities,
    )
