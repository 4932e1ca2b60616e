"""Intervals of test figures: how long they take, and how often they hold the truth.

Two splits are timed with all metrics that fit their task, with 2,000 resamples by image and by slide. Then
many splits are drawn from a model whose true accuracy and AUC are known, and the share of intervals that hold
the truth is printed: 95 of 100 should. Where images of a slide share their luck, intervals by image are too
narrow, and only those by slide keep what they promise.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from side_by_side import describe

from histoflow.evaluation.intervals import DRAWS, with_intervals
from histoflow.evaluation.scores import Metrics, score_all
from histoflow_plugins.metrics import METRICS

Floats = NDArray[np.float64]
Split = tuple[Floats, NDArray[np.int64], NDArray[np.str_]]
"""Probabilities, labels and the slide of each image."""

ALL: Metrics = {metric.name: (metric, metric.params()) for metric in METRICS if "multiclass" in metric.tasks}
COVERED = ("accuracy", "roc_auc")
FEWER = 1000
"""Resamples of each of many splits."""
DISTANCE = 2.0
"""Of the mean scores of the two classes, in standard deviations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each timing")
    parser.add_argument("--splits", type=int, default=500, help="drawn for the coverage")
    asked = parser.parse_args()
    print(describe(f"{DRAWS:,} resamples, {len(ALL)} metrics", asked.runs))
    for images, classes in ((32_768, 2), (7_180, 9)):
        print_seconds(images, classes, asked.runs)
    print(f"\nIntervals that hold the truth, of {asked.splits} splits, {FEWER:,} resamples each")
    print_coverage("800 images, each by itself", independent(asked.splits, 800), ("by image",))
    luck = "60 slides of 20 images that share their luck"
    print_coverage(luck, by_slide(asked.splits, 60, 20), ("by image", "by slide"))


# ── Time ────────────────────────────────────────────────────────────────────────────────────────


def print_seconds(images: int, classes: int, runs: int) -> None:
    """By the clock; and by the processor, as a machine that others use takes longer by the clock alone."""
    probabilities, labels = guessed(images, classes)
    slides = np.array([f"slide {image % 45}" for image in range(images)])
    scores = score_all(ALL, probabilities, labels)
    found: dict[str, list[float]] = {"by image": [], "by slide": []}
    busy: dict[str, list[float]] = {"by image": [], "by slide": []}
    for _ in range(runs):
        for way, groups in (("by image", None), ("by slide", slides)):
            begin, begun = time.perf_counter(), time.process_time()
            with_intervals(ALL, scores, probabilities, labels, groups, seed=0)
            found[way].append(time.perf_counter() - begin)
            busy[way].append(time.process_time() - begun)
    for way, seconds in found.items():
        middle = float(np.median(seconds))
        spread = f"{middle:.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        processor = float(np.median(busy[way]))
        print(f"  {images:6,} × {classes}, {way}   {spread}, processor {processor:.1f} s")


def guessed(images: int, classes: int) -> tuple[Floats, NDArray[np.int64]]:
    chance = np.random.default_rng(0)
    labels = chance.integers(0, classes, images)
    raw = chance.normal(size=(images, classes))
    raw[np.arange(images), labels] += DISTANCE
    odds = np.exp(raw)
    return odds / odds.sum(axis=1, keepdims=True), labels


# ── Coverage ────────────────────────────────────────────────────────────────────────────────────


def independent(splits: int, images: int) -> Iterator[Split]:
    """Scores of two classes, normal around -DISTANCE / 2 and DISTANCE / 2."""
    for number in range(splits):
        chance = np.random.default_rng(number)
        labels = np.arange(images) % 2
        scores = chance.normal(size=images)
        yield *of_scores(scores, labels), np.arange(images).astype(np.str_)


def by_slide(splits: int, slides: int, images: int) -> Iterator[Split]:
    """The same for an image by itself; but half of its variance is of its slide, which is of one class."""
    for number in range(splits):
        chance = np.random.default_rng(number)
        slide = np.repeat(np.arange(slides), images)
        shared, own = chance.normal(size=slides), chance.normal(size=slides * images)
        scores = math.sqrt(0.5) * (shared[slide] + own)
        yield *of_scores(scores, slide % 2), slide.astype(np.str_)


def of_scores(scores: Floats, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    tumor = 1 / (1 + np.exp(-(scores + (labels - 0.5) * DISTANCE)))
    return np.column_stack([1 - tumor, tumor]), labels


def truth() -> Mapping[str, float]:
    """Of two normal scores of variance 1, cut in the middle."""
    normal = NormalDist()
    return {"accuracy": normal.cdf(DISTANCE / 2), "roc_auc": normal.cdf(DISTANCE / math.sqrt(2))}


def print_coverage(title: str, splits: Iterator[Split], ways: Sequence[str]) -> None:
    print(f"  {title}")
    held: dict[str, list[list[bool]]] = {way: [] for way in ways}
    for number, split in enumerate(splits):
        for way in ways:
            held[way].append(holds(split, split[2] if way == "by slide" else None, number))
    for way in ways:
        shares = zip(COVERED, np.mean(held[way], axis=0), strict=True)
        print(f"    {way}   {', '.join(f'{name} {share:.1%}' for name, share in shares)}")


def holds(split: Split, groups: NDArray[np.str_] | None, seed: int) -> list[bool]:
    probabilities, labels, _ = split
    metrics = {name: ALL[name] for name in COVERED}
    scores = score_all(metrics, probabilities, labels)
    scores, _ = with_intervals(metrics, scores, probabilities, labels, groups, seed=seed, draws=FEWER)
    held = []
    for name, true in truth().items():
        low, high = scores[name].interval or (math.nan, math.nan)
        held.append(low <= true <= high)
    return held


if __name__ == "__main__":
    main()
