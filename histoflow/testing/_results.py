"""A finished evaluation to show reporters: figures as a run has them, of a model that guesses a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoflow.components import DataInfo, Results, Score, Task
from histoflow.data.store import SCHEMA, Manifest, SplitFacts
from histoflow.evaluation.curves import class_counts
from histoflow.runs import RunRecord
from histoflow.testing._common import example_data, example_labels

EPOCHS = 3
TEST_IMAGES = 40


def example_results(folder: Path, task: Task = "multiclass") -> Results:
    """The folder gets a run.json that no reporter may touch."""
    data = example_data(task)
    run = example_run().model_dump_json()
    (folder / "run.json").write_text(run, encoding="utf-8")
    labels = example_labels(task, len(data.classes), TEST_IMAGES)
    probabilities = _probabilities(labels, len(data.classes))
    told = probabilities.argmax(axis=1) if labels.ndim == 1 else probabilities > 0.5
    accuracy = float((told == labels).mean())
    return Results(
        folder=folder,
        run={**example_run().model_dump(mode="json"), "test_openings": []},
        data=example_manifest(data, labels).model_dump(mode="json"),
        history=[_epoch(number) for number in range(1, EPOCHS + 1)],
        metrics={"accuracy": Score(value=accuracy), "undefined": Score(value=None, undefined="an example")},
        labels=labels,
        probabilities=probabilities,
    )


def example_run() -> RunRecord:
    return RunRecord(
        id="20260101-120000-example-abcd",
        name="example",
        created="2026-01-01T12:00:00+00:00",
        state="evaluated",
        experiment={
            "name": "example",
            "dataset": {"name": "example"},
            "preprocess": [],
            "augment": [],
            "architecture": {"name": "example"},
            "loss": {"name": "example"},
            "optimizer": {"name": "example", "lr": 0.001},
            "scheduler": {"name": "example"},
            "metrics": [{"name": "accuracy"}],
            "training": {"epochs": EPOCHS, "batch_size": 32, "monitor": "val_loss"},
            "seed": 0,
        },
        environment={"python": "3.11", "device": "cpu"},
        plugins=({"plugin": "example", "package": "example", "version": "1.0"},),
        best={"epoch": EPOCHS, "monitor": "val_loss", "value": 1 / EPOCHS},
        stopped=f"all {EPOCHS} epochs trained",
    )


def example_manifest(data: DataInfo, test_labels: NDArray[np.int64]) -> Manifest:
    train = _split(data.train_images, data.train_counts)
    test = _split(len(test_labels), tuple(class_counts(test_labels, len(data.classes))))
    return Manifest.model_validate(
        {
            "schema_version": SCHEMA,
            "fingerprint": "0" * 64,
            "dataset": {"name": "example"},
            "preprocess": (),
            "split": {"val": 0.15, "test": 0.15, "seed": 0},
            "task": data.task,
            "classes": data.classes,
            "channels": data.channels,
            "size": data.size,
            "splits": {"train": train, "val": train, "test": test},
            "mean": (0.5,) * data.channels,
            "std": (0.2,) * data.channels,
            "quarantine": ({"source": "image 7", "reason": "the file is empty"},),
            "findings": (),
            "licence": "CC0-1.0",
            "citation": "An example.",
        }
    )


def _split(images: int, counts: tuple[int, ...]) -> SplitFacts:
    return SplitFacts(images=images, counts=counts, groups=None, shards=(images,), files={})


def _epoch(number: int) -> dict[str, float]:
    return {
        "epoch": number,
        "train_loss": 1 / number,
        "val_loss": 1 / number,
        "val_accuracy": number / (EPOCHS + 1),
        "lr": 0.001,
        "seconds": 1.5,
        "images_per_second": 100.0,
    }


def _probabilities(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    guesses: NDArray[np.float64] = np.random.default_rng(0).dirichlet(np.ones(classes), len(labels))
    return (guesses + (np.eye(classes)[labels] if labels.ndim == 1 else labels)) / 2
