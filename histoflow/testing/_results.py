"""A finished evaluation to show reporters: figures as a run has them, of a model that guesses a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoflow.components import DataInfo, Results, Score
from histoflow.data.store import SCHEMA, Manifest, SplitFacts
from histoflow.runs import RunRecord
from histoflow.testing._common import example_data

EPOCHS = 3
TEST_IMAGES = 40


def example_results(folder: Path) -> Results:
    """The folder gets a run.json that no reporter may touch."""
    data = example_data("multiclass")
    run = example_run().model_dump_json()
    (folder / "run.json").write_text(run, encoding="utf-8")
    labels = np.arange(TEST_IMAGES, dtype=np.int64) % len(data.classes)
    probabilities = _probabilities(labels, len(data.classes))
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
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
    test = tuple(np.bincount(test_labels, minlength=len(data.classes)).tolist())
    splits = {"train": data.train_counts, "val": data.train_counts, "test": test}
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
            "splits": {name: _split(counts) for name, counts in splits.items()},
            "mean": (0.5,) * data.channels,
            "std": (0.2,) * data.channels,
            "quarantine": ({"source": "image 7", "reason": "the file is empty"},),
            "findings": (),
            "licence": "CC0-1.0",
            "citation": "An example.",
        }
    )


def _split(counts: tuple[int, ...]) -> SplitFacts:
    return SplitFacts(images=sum(counts), counts=counts, groups=None, shards=(sum(counts),), files={})


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
    return (guesses + np.eye(classes)[labels]) / 2
