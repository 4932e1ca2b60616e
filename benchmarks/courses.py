"""Whole trainings, one for each seed: how far they came, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from by_hand import Script

from histoflow import stages
from histoflow.data.store import PackedStore
from histoflow.experiment import parse


@dataclass(frozen=True)
class Course:
    """How a training went."""

    curve: list[tuple[float, float]]
    """Seconds since it began, and the validation accuracy then, for each epoch."""
    test: float
    """The test accuracy of the best epoch."""

    @property
    def seconds(self) -> float:
        return self.curve[-1][0]

    @property
    def best(self) -> float:
        return max(accuracy for _, accuracy in self.curve)

    @property
    def last(self) -> float:
        return self.curve[-1][1]

    @property
    def seconds_warm(self) -> float:
        """What all epochs take once the first has compiled and recorded what there is to."""
        rest = self.curve[-1][0] - self.curve[0][0]
        return rest * len(self.curve) / (len(self.curve) - 1)

    def seconds_to(self, accuracy: float) -> float:
        """For ever, where it was never reached."""
        return next((seconds for seconds, reached in self.curve if reached >= accuracy), float("inf"))


def script(folder: Path, epochs: int, **options: Any) -> Iterator[Course]:
    """A whole training for each seed."""
    store, seed = PackedStore(folder), 0
    while True:
        begin, curve = time.perf_counter(), []
        training = Script(store, seed=seed, **options)
        best, best_weights = 0.0, training.model.state_dict()
        for _ in range(epochs):
            training.train_epoch()
            accuracy = training.val_accuracy()
            if accuracy > best:
                best, best_weights = accuracy, deepcopy(training.model.state_dict())
            curve.append((time.perf_counter() - begin, accuracy))
        training.model.load_state_dict(best_weights)
        yield Course(curve, training.test_accuracy())
        seed += 1


def recipe(folder: Path, data: Mapping[str, Any]) -> Iterator[Course]:
    """A whole training for each seed."""
    packed = stages.Packed(folder=folder, fingerprint=PackedStore(folder).manifest.fingerprint)
    seed = 0
    while True:
        begin = time.perf_counter()
        experiment = parse(dict(data) | {"seed": seed})
        run = stages.start(experiment)
        epochs = stages.training(experiment, packed, run)
        curve = [(time.perf_counter() - begin, epoch["val_accuracy"]) for epoch in epochs]
        scores = stages.evaluate(run, reason="benchmark").metrics["scores"]
        yield Course(curve, scores["accuracy"]["value"])
        seed += 1
