"""What a training tells while it is under way."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import torch
from torch import nn

from histoflow import glance, progress, stages
from histoflow.engine import checkpoint
from histoflow.engine.fit import Position
from histoflow.glance import Glance
from histoflow.runs import Run
from support import prepared, small_experiment

ENTRY = {"seconds": 50.0, "validation_seconds": 10.0, "val_loss": 0.5, "val_accuracy": 0.8125}


class Heard(progress.LogListener):
    def __init__(self) -> None:
        super().__init__()
        self.figures: list[progress.Figures] = []

    def tell(self, figures: progress.Figures) -> None:
        self.figures.append(figures)


def looked_at(position: Position, history: list[dict[str, Any]], best: int = 1) -> progress.Figures:
    look = Glance(10, 100, ["val_loss", "val_accuracy"], "val_loss", torch.device("cpu"))
    with progress.listening(heard := Heard()):
        if history:
            look.after(history, best)
        look.at(position)
    return heard.figures[-1]


def test_the_first_epoch_tells_where_it_is_and_how_long_all_will_take() -> None:
    figures = dict(looked_at(Position(epoch=1, step=50, loss=640.0, images=1000, seconds=30.0), []))
    assert figures.pop("memory").endswith(" GB")
    assert figures == {"step": "50 of 100", "loss": "0.640", "training": "9 min 30 s left"}


def test_at_the_beginning_nobody_knows_how_long_it_takes() -> None:
    assert "training" not in looked_at(Position(epoch=1, step=1, loss=1.0, images=10, seconds=9.0), [])


def test_later_epochs_tell_the_last_validation_and_the_best() -> None:
    history = [ENTRY, ENTRY | {"val_loss": 0.75, "val_accuracy": None}]
    figures = looked_at(Position(epoch=3, step=50, loss=64.0, images=100, seconds=1.0), history)
    assert list(figures.items())[-2:] == [("val_loss", "0.750"), ("best", "0.500 in epoch 1")]
    assert figures["training"] == "7 min 30 s left", "from what whole epochs took, validation and all"


def test_a_figure_that_was_never_defined_has_no_best() -> None:
    figures = looked_at(Position(epoch=2), [ENTRY | {"val_loss": None}])
    assert "best" not in figures
    assert "loss" not in figures


def test_validation_is_told_and_its_figures_are_passed_on() -> None:
    look = Glance(1, 1, [], "val_loss", torch.device("cpu"))
    with progress.listening(heard := Heard()):
        look.at(Position(step=1, loss=1.0, images=2))
        assert look.validating(lambda model: {"val_loss": 1.0})(nn.Identity()) == {"val_loss": 1.0}
        look.over()
    _, validating, over = heard.figures
    assert (validating["now"], validating["loss"]) == ("validating", "0.500")
    assert "step" not in validating
    assert over == {}


def _trained(name: str, every: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Heard]:
    monkeypatch.setattr(glance, "EVERY", every)
    experiment = small_experiment(training={"epochs": 2, "batch_size": 32})
    run, packed = prepared(experiment, name)
    with progress.listening(heard := Heard()):
        stages.train(experiment, packed, run)
    return run, heard


def test_looking_often_neither_saves_nor_changes_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, positions = checkpoint.snapshot, []

    def remember(*arguments: Any) -> Any:
        positions.append(arguments[2].step)
        return snapshot(*arguments)

    monkeypatch.setattr(checkpoint, "snapshot", remember)
    often, heard = _trained("often", 0.0, monkeypatch)
    assert positions == [0, 0], "saved at the end of each epoch, and never within"
    assert [told["step"] for told in heard.figures if told and "now" not in told][:4] == [
        "1 of 4", "2 of 4", "3 of 4", "4 of 4",
    ]  # fmt: skip
    assert heard.figures[-1] == {}
    seldom, _ = _trained("seldom", 1e9, monkeypatch)
    hashes = {checkpoint.find(run.checkpoints, "last").model_hash for run in (often, seldom)}  # type: ignore[union-attr]
    assert len(hashes) == 1
    losses = [[entry["train_loss"] for entry in run.history()] for run in (often, seldom)]
    assert losses[0] == losses[1]


def test_a_training_that_goes_on_knows_the_epochs_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "EVERY", 0.0)
    experiment = small_experiment(training={"epochs": 2, "batch_size": 32})
    run, packed = prepared(experiment, "resumed")
    with closing(stages.training(experiment, packed, run)) as epochs:
        next(epochs)
    with progress.listening(heard := Heard()):
        stages.train(experiment, packed, run)
    assert heard.figures[0]["step"] == "1 of 4"
    assert heard.figures[0]["best"].endswith(" in epoch 1")
