"""How often the gate of a retraining promotes, holds and rejects challengers whose true worth is known.

Test splits of 2,000 images of two classes and of 7,180 of nine are simulated, on which the champion is right
on 92%. Of the images, 3% change to right and 3% to wrong by chance; the challenger's loss comes on top. Speed
is not weighed.

    python benchmarks/bench_gate.py [draws]
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from numpy.typing import NDArray
from side_by_side import describe

from histoflow import Metric
from histoflow.evaluation.predictions import Predictions
from histoflow.evaluation.scores import Metrics
from histoflow.registry import installed
from histoflow.retraining.gate import Gate, compared, weigh

RIGHT, CHANGED = 0.92, 0.03
SPLITS = ((2_000, 2), (7_180, 9))
LOSSES = (-0.01, 0.0, 0.005, 0.01, 0.02)


def accuracy() -> Metrics:
    metric = installed().get(Metric, "accuracy")
    return {"accuracy": (metric, metric.params())}


def predicted(
    right: NDArray[np.bool_], labels: NDArray[np.int64], classes: int, chance: np.random.Generator
) -> Predictions:
    """A model that is surer where it is right."""
    told = np.where(right, labels, (labels + 1) % classes)
    sure = np.clip(np.where(right, 0.93, 0.75) + chance.normal(0, 0.02, len(labels)), 0.2, 0.995)
    probabilities = np.repeat(((1 - sure) / (classes - 1))[:, None], classes, axis=1)
    probabilities[np.arange(len(labels)), told] = sure
    return Predictions(probabilities=probabilities, labels=labels)


def pair(
    images: int, classes: int, loss: float, chance: np.random.Generator
) -> tuple[Predictions, Predictions]:
    """Champion and challenger on the same images."""
    labels = np.arange(images) % classes
    champion, place = chance.random(images) < RIGHT, chance.random(images)
    lost, won = (CHANGED + max(loss, 0)) / RIGHT, (CHANGED + max(-loss, 0)) / (1 - RIGHT)
    challenger = np.where(champion, place >= lost, place < won)
    return predicted(champion, labels, classes, chance), predicted(challenger, labels, classes, chance)


def decisions(images: int, classes: int, loss: float, draws: int) -> Counter[str]:
    chance, metrics, names = np.random.default_rng(1), accuracy(), [str(index) for index in range(classes)]
    found: Counter[str] = Counter()
    for _ in range(draws):
        champion, challenger = pair(images, classes, loss, chance)
        differences = compared(champion, challenger, metrics=metrics, main="accuracy")
        found[weigh(champion, challenger, differences, names, Gate(), None).decision] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("draws", type=int, nargs="?", default=40)
    draws = parser.parse_args().draws
    head = describe(f"What the gate decides, of {draws} challengers each, with its usual settings", 1)
    print("\n".join(head.splitlines()[:-1]))  # nothing here runs side by side
    for images, classes in SPLITS:
        for loss in LOSSES:
            found = decisions(images, classes, loss, draws)
            shares = "   ".join(
                f"{what} {found[what] / draws:4.0%}" for what in ("promote", "hold", "reject")
            )
            print(f"  {images:5,} images of {classes} classes, true loss {loss:+.1%}   {shares}", flush=True)


if __name__ == "__main__":
    main()
