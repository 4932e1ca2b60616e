"""Two finished runs to report on: nine classes with everything, two classes with little."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from histoflow import Metric, Results
from histoflow.evaluation import fitting, further, score_all
from histoflow.evaluation.predictions import Predictions
from histoflow.experiment import Evaluation
from histoflow.registry import installed
from histoflow_plugins.metrics import METRICS
from support import small_experiment

NINE = (
    "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
    "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
)  # fmt: skip
TWO = ("normal", "tumor")
FINDINGS = ("infiltration", "effusion", "hernia")
ONE_LABEL_METRICS = [metric for metric in METRICS if "multiclass" in metric.tasks]
SEVERAL_LABELS_METRICS = [metric for metric in METRICS if "multilabel" in metric.tasks]


def nine_classes(folder: Path) -> Results:
    labels, probabilities = _predictions(np.tile(np.arange(9), 45), classes=9)
    return Results(
        folder=folder,
        run=_run("colon tissue"),
        data=_manifest(NINE, "multiclass", labels),
        history=_history(10),
        metrics=_scores(labels, probabilities),
        labels=labels,
        probabilities=probabilities,
    )


def two_classes(folder: Path) -> Results:
    """Only what a report cannot do without."""
    labels, probabilities = _predictions(np.repeat([0, 1], [180, 60]), classes=2)
    return Results(
        folder=folder,
        run={"schema": 1, "id": "20261121-130000-nodes-91c2", "experiment": {"dataset": "folder"}},
        data={"schema": 1, "classes": list(TWO)},
        history=[],
        metrics=_scores(labels, probabilities),
        labels=labels,
        probabilities=probabilities,
    )


def several_labels(folder: Path) -> Results:
    """Of chest radiographs, which show none of the findings or several."""
    rng = np.random.default_rng(7)
    labels = (rng.random((200, 3)) < (0.5, 0.2, 0.05)).astype(np.int64)
    probabilities = 0.6 * rng.random(labels.shape) + 0.4 * labels
    counts = labels.sum(axis=0).tolist()
    data = _manifest(FINDINGS, "multilabel", np.zeros(0, np.int64))
    return Results(
        folder=folder,
        run=_run("chest"),
        data={**data, "splits": {"test": {"images": 200, "counts": counts}}},
        history=_history(3),
        metrics=_scores(labels, probabilities),
        labels=labels,
        probabilities=probabilities,
    )


def evaluated(results, groups=None, **settings):
    """The same results with what was looked at beside the scores; every other image is of validation."""
    kept = Predictions(probabilities=results.probabilities, labels=results.labels, groups=groups)
    validation = Predictions(probabilities=results.probabilities[::2], labels=results.labels[::2])
    asked = small_experiment().model_copy(update={"evaluation": Evaluation(**settings)})
    metrics = {"accuracy": (metric := installed().get(Metric, "accuracy"), metric.params())}
    fitted = fitting.fit(validation, asked.evaluation, "abc")
    found = further.look(asked, metrics, kept, validation, fitted, installed())
    return replace(results, evaluation={"classes": results.data["classes"], **found})


def _predictions(labels, classes):
    rng = np.random.default_rng(7)
    raw = rng.normal(size=(len(labels), classes)) * 1.3
    raw[np.arange(len(labels)), labels] += np.where(labels == classes - 2, 1.5, 3.4)
    odds = np.exp(raw)
    return labels.astype(np.int64), odds / odds.sum(axis=1, keepdims=True)


def _scores(labels, probabilities):
    chosen = SEVERAL_LABELS_METRICS if labels.ndim == 2 else ONE_LABEL_METRICS
    return score_all({metric.name: (metric, metric.params()) for metric in chosen}, probabilities, labels)


def _run(name):
    return {
        "schema": 1,
        "id": "20261121-120000-colon-3f2a",
        "name": name,
        "created": "2026-11-21T12:00:00+00:00",
        "experiment": {
            "name": name,
            "dataset": {"name": "tissue", "classes": 9, "images": 2700, "size": 64, "stain": 0.4},
            "preprocess": [{"name": "resize", "size": 64}],
            "augment": [{"name": "flip"}, {"name": "stain_jitter", "strength": 0.05}],
            "architecture": {"name": "resnet", "depth": 18, "pretrained": False, "width": 64},
            "loss": {"name": "cross_entropy", "smoothing": 0.1, "weights": None},
            "optimizer": {"name": "adam", "lr": 0.001},
            "scheduler": {"name": "cosine", "warmup": 1},
            "training": {"epochs": 10, "batch_size": 128, "monitor": "val_loss"},
            "seed": 0,
        },
        "environment": {
            "python": "3.11.7",
            "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
            "torch": "2.15.0",
            "device": "cpu",
            "threads": 2,
            "histoflow": "0.1.0",
        },
        "plugins": [
            {"package": "histoflow", "version": "0.1.0", "plugin": plugin}
            for plugin in ("tissue", "cnn", "losses", "metrics")
        ],
        "data_fingerprint": "ab" * 32,
        "test_openings": [{"time": "2026-11-21T12:04:10+00:00", "reason": "evaluate", "model": "9d" * 32}],
        "best": {"epoch": 7, "monitor": "val_loss", "value": 0.3124},
    }


def _manifest(classes, task, labels):
    test = np.bincount(labels, minlength=len(classes)).tolist()
    train, val = [210] * len(classes), [46] * len(classes)
    return {
        "schema": 1,
        "fingerprint": "5ac1f09e" * 8,
        "task": task,
        "classes": list(classes),
        "channels": 3,
        "size": [64, 64],
        "splits": {
            "train": {"images": sum(train), "counts": train, "groups": 30},
            "val": {"images": sum(val), "counts": val, "groups": 6},
            "test": {"images": sum(test), "counts": test, "groups": 6},
        },
        "quarantine": [
            {"source": "slides/P07/tile_0113.png", "reason": "the file ends early: 1,024 of 8,310 bytes"},
            {"source": "slides/P19/tile_0004.png", "reason": "all pixels are white"},
        ],
        "findings": [
            {
                "check": "duplicates_across_splits",
                "severity": "warning",
                "message": "3 images of train are also in val; the first is slides/P02/tile_0017.png",
            },
            {"check": "class_counts", "severity": "note", "message": "The classes are balanced."},
        ],
        "licence": "CC BY 4.0",
        "citation": "Kather J. N. et al., Predicting survival from colorectal cancer histology slides, 2019",
    }


def _history(epochs):
    return [
        {
            "epoch": epoch,
            "train_loss": 1.4 / epoch**0.6 + 0.1,
            "val_loss": 1.3 / epoch**0.5 + 0.02 * max(0, epoch - 7),
            **{
                f"val_{metric.name}": 0.97 - 0.02 * place - 0.4 / epoch
                for place, metric in enumerate(ONE_LABEL_METRICS)
            },
            "lr": 0.001,
            "seconds": 12.9 + 0.1 * epoch,
            "images_per_second": 690.0 + epoch,
        }
        for epoch in range(1, epochs + 1)
    ]
