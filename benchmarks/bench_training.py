"""Training in images per second: histoflow against the script of by_hand.py, and against the GPU's limits.

Each side trains in a process of its own, and they take turns, an epoch with its validation at a time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import courses
import torch
import trainings
from by_hand import EPOCHS
from made_data import noise
from made_data import packed as packed_noise
from own_process import OwnProcess
from side_by_side import compare, describe

from histoflow.engine.device import cores, machine_of
from histoflow.home import VARIABLE

Start = Callable[[], OwnProcess[int]]
RUNS, MANY_EPOCHS, LARGE = 5, 100, 1024


def experiment(**changes: Any) -> dict[str, Any]:
    """What the script trains, with flips and a validation each epoch."""
    data: dict[str, Any] = {
        "name": "bench",
        "dataset": {"name": "tissue", "images": 2700},
        "augment": ["flips"],
        "architecture": {"name": "resnet", "depth": 18},
        "optimizer": {"name": "adam", "lr": 1e-3},
        "metrics": ["accuracy"],
        "training": {"epochs": MANY_EPOCHS, "batch_size": 128},
        "reports": [],
    }
    return data | changes


def race(title: str, ways: Mapping[str, Start], runs: int) -> None:
    with ExitStack() as stack:
        compare(title, "images", {name: stack.enter_context(start()) for name, start in ways.items()}, runs)


def ours(folder: Path, data: Mapping[str, Any]) -> Start:
    return lambda: OwnProcess(trainings.with_histoflow, folder, data)


def theirs(folder: Path, **options: Any) -> Start:
    return lambda: OwnProcess(trainings.by_hand, folder, **options)


# ── On a CPU ────────────────────────────────────────────────────────────────────────────────────


def on_a_cpu(images: int, runs: int) -> None:
    data = experiment(dataset={"name": "tissue", "images": images}, compute={"device": "cpu"})
    folder = trainings.packed(data)
    own = {"histoflow": ours(folder, data)}
    if machine_of(torch.device("cpu")).bf16:
        bf16 = dict(data) | {"compute": {"device": "cpu", "precision": "bf16"}}
        own["histoflow, compute.precision=bf16"] = ours(folder, bf16)
    for workers in (0, 2):
        peer = {f"by hand, {workers} workers": theirs(folder, workers=workers)}
        race("ResNet-18, 64×64, batch of 128, CPU", own | peer, runs)
    two_trials(folder, data, runs)


def two_trials(folder: Path, data: Mapping[str, Any], runs: int) -> None:
    """Trials of a study that run side by side share the cores out; by default torch takes all for each."""
    each = max(1, cores() // 2)
    with ExitStack() as stack:
        ways = {
            name: together(
                stack, [ours(folder, dict(data) | {"compute": {"device": "cpu", "threads": threads}})] * 2
            )
            for name, threads in ((f"threads: {each} each", each), (f"threads: {cores()} each", cores()))
        }
        compare("Two trainings at the same time, CPU", "images", ways, runs)


def together(stack: ExitStack, starts: list[Start]) -> Callable[[], int]:
    processes = [stack.enter_context(start()) for start in starts]

    def epoch() -> int:
        for process in processes:
            process.ask()
        return sum(process.take() for process in processes)

    return epoch


# ── On a GPU ────────────────────────────────────────────────────────────────────────────────────


def on_a_gpu(folder: Path, images: int, runs: int) -> None:
    sets = {side: packed_noise(noise(images, side), folder / str(side)).folder for side in (28, 64, 96)}
    large = experiment(training={"epochs": MANY_EPOCHS, "batch_size": LARGE})
    workers = min(16, cores())
    by_hand = {"workers": workers, "device": "cuda", "batch_size": LARGE}
    race(
        f"ResNet-18, 64×64, batch of {LARGE}; by hand with {workers} workers; computed limit 410,000",
        {
            "histoflow": ours(sets[64], large),
            "by hand, AMP": theirs(sets[64], **by_hand, amp=True),
            "by hand, fp32": theirs(sets[64], **by_hand),
        },
        runs,
    )
    race(
        "ResNet-18, 64×64, batch of 128",
        {
            "histoflow": ours(sets[64], experiment()),
            "resident eager bf16 loop": lambda: OwnProcess(trainings.resident_loop, sets[64], 128),
        },
        runs,
    )
    small_stem = large | {"architecture": {"name": "resnet", "stem": "small"}}
    race("ResNet-18, small stem, 28×28; limit 157,000", {"histoflow": ours(sets[28], small_stem)}, runs)
    race("ResNet-18, 96×96; limit 182,000", {"histoflow": ours(sets[96], large)}, runs)
    five = large | {"architecture": "cnn5"}
    race("Five convolutions, 96×96; limit 175,000", {"histoflow": ours(sets[96], five)}, runs)


def end_to_end(images: int, runs: int) -> None:
    """Ten epochs with validation, on as many images as PathMNIST has."""
    data = experiment(
        dataset={"name": "tissue", "images": images}, training={"epochs": EPOCHS, "batch_size": 512}
    )
    folder, workers = trainings.packed(data), min(16, cores())
    with (
        OwnProcess(courses.recipe, folder, data) as ours,
        OwnProcess(courses.script, folder, EPOCHS, device="cuda", workers=workers) as theirs,
    ):
        pairs = [(ours(), theirs()) for _ in range(runs)]
    print(describe(f"{images:,} images in all, {EPOCHS} epochs of ResNet-18, 64×64, after warm-up", runs))
    for name, found in zip(("histoflow", "by hand"), zip(*pairs, strict=True), strict=True):
        for course in found:
            print(f"  {name:10} {course.seconds_warm:6.1f} s, test accuracy {course.test:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few images: only to see that it works")
    parser.add_argument("--end-to-end", action="store_true", help="on a GPU: 90,000 images, ten epochs, too")
    asked = parser.parse_args()
    runs = 1 if asked.quick else RUNS
    with tempfile.TemporaryDirectory() as folder:
        os.environ[VARIABLE] = folder
        on_a_cpu(270 if asked.quick else 2700, runs)
        if torch.cuda.is_available():
            on_a_gpu(Path(folder), 4_096 if asked.quick else 65_536, runs)
        if torch.cuda.is_available() and asked.end_to_end:
            end_to_end(128_570, runs)


if __name__ == "__main__":
    main()
