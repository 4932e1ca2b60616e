"""Images that show several classes, or none, from the file of the data set to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.table import Table
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from histoflow import stages
from histoflow.data.store import PackedStore
from histoflow.experiment import Experiment, parse
from histoflow.runs import Run
from histoflow_flows import display
from histoflow_flows.evidence.report import draw_results
from scoring import main_figures_of

CLASSES = 14


def chest_file(path: Path) -> Path:
    """In MedMNIST's format; each class is a bright spot in a place of its own."""
    chance = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 240), ("val", 60), ("test", 60)):
        labels = (chance.random((count, CLASSES)) < 0.3).astype(np.uint8)
        images = chance.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for number in range(CLASSES):
            row, column = 7 * (number // 4), 7 * (number % 4)
            images[:, row : row + 7, column : column + 7] += 150 * labels[:, number, None, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez_compressed(path, **arrays)
    return path


def chest(file: Path, **training: Any) -> Experiment:
    return parse(
        {
            "name": "chest",
            "dataset": {"name": "medmnist", "subset": "chestmnist", "path": str(file)},
            "augment": ["flips", "mixup"],
            "architecture": {"name": "cnn", "widths": [8, 16]},
            "loss": {"name": "bce", "class_weights": "balanced"},
            "training": {"epochs": 1, "batch_size": 32, "monitor": "val_roc_auc", **training},
            "compute": {"device": "cpu"},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the run ``run``: an epoch on a part of the data, evaluated."""
    home = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        experiment = chest(chest_file(home / "chestmnist.npz"), share=0.9, accumulate=2)
        run = stages.start(experiment, "run")
        packed = stages.preprocess(experiment, stages.fetch(experiment))
        stages.train(experiment, packed, run)
        stages.evaluate(run)
    return home


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HISTOFLOW_HOME", str(trained))
    return Run(trained / "runs" / "run")


def test_every_class_is_counted_and_every_default_metric_has_its_figure(run: Run) -> None:
    store = PackedStore(Path(str(run.read().packed)))
    labels = store.split("train").labels
    assert (labels.dtype, labels.shape) == (np.uint8, (240, CLASSES))
    assert store.manifest.splits["train"].counts == tuple(labels.sum(axis=0))
    assert store.manifest.info.train_images == 240
    (entry,) = run.history()
    assert all(entry[f"val_{choice['name']}"] is not None for choice in run.read().experiment["metrics"])


def test_the_test_figures_are_those_of_scikit_learn(run: Run) -> None:
    metrics = run.metrics()
    assert metrics is not None
    with np.load(run.folder / "predictions.npz") as kept:
        labels, probabilities = kept["labels"], kept["probabilities"]
    assert labels.shape == probabilities.shape == (60, CLASSES)
    given = probabilities > 0.5
    expected = {
        "roc_auc": roc_auc_score(labels, probabilities),
        "accuracy": np.mean([accuracy_score(labels[:, n], given[:, n]) for n in range(CLASSES)]),
        "f1": f1_score(labels, given, average="macro", zero_division=0),
    }
    assert {name: metrics["scores"][name]["value"] for name in expected} == pytest.approx(expected)


def test_every_figure_and_its_interval_follow_from_the_predictions_that_are_kept(run: Run) -> None:
    written, again = run.metrics(), main_figures_of(run)
    assert written is not None
    assert {part: written[part] for part in again} == again
    assert all(score["interval"] for score in again["scores"].values())


def test_a_prediction_names_all_that_an_image_is_thought_to_show(run: Run, tmp_path: Path) -> None:
    done = stages.predict(run, split="val", out=tmp_path / "val.parquet")
    table = pq.read_table(done.table)
    columns = [name for name in table.column_names if name.startswith("p_")]
    assert len(columns) == CLASSES
    for row in table.to_pylist():
        likely = [name.removeprefix("p_") for name in columns if row[name] > 0.5]
        assert row["predicted"] == ";".join(likely)
        assert row["confidence"] == pytest.approx(min(max(row[c], 1 - row[c]) for c in columns))


def test_report_evidence_and_terminal_tell_of_each_class(run: Run) -> None:
    report, _ = stages.report(run)
    assert "How many test images show each class" in report.read_text(encoding="utf-8")
    card = draw_results(run, (report,))
    assert "| class | images | found | predictions | right |" in card.data
    assert "hernia" in card.data
    metrics = run.metrics()
    assert metrics is not None
    overall, by_class, *_ = display.scores(metrics, "Test split").renderables
    assert isinstance(overall, Table)
    assert isinstance(by_class, Table)
    assert (overall.row_count, by_class.row_count) == (len(metrics["scores"]), CLASSES)


def test_a_learning_rate_is_found(run: Run, trained: Path, tmp_path: Path) -> None:
    experiment = chest(trained / "chestmnist.npz")
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    found = stages.find_lr(experiment, packed, tmp_path, steps=20)
    assert (found.folder / "lr-find.png").is_file()
