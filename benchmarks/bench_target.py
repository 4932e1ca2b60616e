"""Wall time to an accuracy: the recipe ``fast`` against the script of by_hand.py, on the same packed set.

The script trains all its epochs and keeps the best. That one's validation accuracy, which is no lower than
the one at its end, is the target. Each side trains in a process of its own; they take turns, each pair with
another seed. Times are those of training with its validations.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile

import by_hand
import courses
import torch
import trainings
from courses import Course
from own_process import OwnProcess
from side_by_side import describe

from histoflow import recipes
from histoflow.home import VARIABLE

RUNS = 5


def show(hand: list[Course], fast: list[Course]) -> None:
    pairs = list(zip(hand, fast, strict=True))
    to_target = [mine.seconds_to(theirs.best) for theirs, mine in pairs]
    to_own_best = [course.seconds_to(course.best) for course in hand]
    print(describe("Time to the validation accuracy of the script's best epoch", len(pairs)))
    _row("by hand, all epochs", [course.seconds for course in hand], "s")
    _row("by hand, to its best epoch", to_own_best, "s")
    _row("fast, to the same accuracy", to_target, "s")
    _row("fast, all epochs", [course.seconds for course in fast], "s")
    _row("share of the script's time", _shares(to_target, [course.seconds for course in hand]))
    _row("share of its time to its best epoch", _shares(to_target, to_own_best))
    for name, found in (("by hand", hand), ("fast", fast)):
        _row(f"{name}, best validation accuracy", [course.best for course in found])
        _row(f"{name}, validation accuracy at the end", [course.last for course in found])
        _row(f"{name}, test accuracy of the best", [course.test for course in found])


def _shares(mine: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(mine, theirs, strict=True)]


def _row(name: str, values: list[float], unit: str = "") -> None:
    middle, least, most = (f"{value:.3g}" for value in (statistics.median(values), min(values), max(values)))
    print(f"  {name:38} {middle} ({least} to {most}) {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images: only to see that it works")
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = recipes.read("fast")
    if asked.quick:
        data["dataset"] = {"name": "tissue", "images": 270}
    with tempfile.TemporaryDirectory() as home:
        os.environ[VARIABLE] = home
        folder = trainings.packed(data)
        epochs = 1 if asked.quick else by_hand.EPOCHS
        with (
            OwnProcess(courses.script, folder, epochs, device=device) as theirs,
            OwnProcess(courses.recipe, folder, data) as ours,
        ):
            pairs = [(theirs(), ours()) for _ in range(1 if asked.quick else asked.runs)]
    show([hand for hand, _ in pairs], [fast for _, fast in pairs])


if __name__ == "__main__":
    main()
