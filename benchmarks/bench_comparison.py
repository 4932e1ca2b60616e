"""How often the verdict of ``histoflow compare`` is right, of models whose true accuracy is known.

Predictions are simulated on a test split like PathMNIST's, 7,180 images of 9 classes, by models that are
right on 90% of them. What decides is the discordance: on how many images one model alone is right. It is 18%
where errors are independent, and less the more alike two models are. Images of one patient are alike: of
those on which the models differ, the share that goes to B varies from patient to patient by 15% (standard
deviation).

The intervals are computed by histoflow's functions for many simulated pairs at once; of every hundredth pair
``compare`` itself must come to the same interval.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from histoflow import Metric, Params
from histoflow.evaluation import paired
from histoflow.evaluation.comparison import compare
from histoflow.evaluation.resampling import of_units, units_of
from histoflow.registry import installed

COUNTS = (1338, 847, 339, 634, 1035, 592, 741, 421, 1233)  # test images of PathMNIST, class by class
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)
ACCURACY = 0.9
SPREAD = 0.15
BATCH = 100  # pairs that share their resamples; the first of them is held against ``compare``
Groups = NDArray[np.int64] | None


@dataclass(frozen=True)
class Rates:
    """Of so many simulated comparisons, the share called better and worse."""

    better: float
    worse: float
    comparisons: int

    def error(self, rate: float) -> float:
        return sqrt(rate * (1 - rate) / self.comparisons)

    def __str__(self) -> str:
        better, worse = (f"{rate:6.1%} ± {self.error(rate):.1%}" for rate in (self.better, self.worse))
        return f"better {better}   worse {worse}"


@dataclass(frozen=True)
class Setting:
    discordance: float
    loss: float = 0.0
    """By how much B is less accurate than A."""
    groups: Groups = None
    drawn_by: Groups = None
    """What the bootstrap is told of the groups."""
    spread: float = 0.0


def simulate(setting: Setting, chance: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether A, and whether B, is right on each image."""
    share = 0.5 - setting.loss / setting.discordance / 2
    if setting.groups is not None:
        apart = chance.normal(0, setting.spread, setting.groups.max() + 1)
        share = np.clip(share + apart, 0, 1)[setting.groups]
    fate, goes_to_b = chance.random((2, len(LABELS)))
    one_alone = fate < setting.discordance
    both = fate > 1 - (ACCURACY - setting.discordance / 2)
    return both | (one_alone & (goes_to_b >= share)), both | (one_alone & (goes_to_b < share))


def rates(setting: Setting, comparisons: int, draws: int, seed: int) -> Rates:
    units = units_of(LABELS, setting.drawn_by)
    tail, chance = paired.tail_of(units, 0.95), np.random.default_rng(seed)
    lows, highs = [], []
    for batch in range(0, comparisons, BATCH):
        pairs = [simulate(setting, chance) for _ in range(min(BATCH, comparisons - batch))]
        apart = np.stack([right_b.astype(np.float32) - right_a for right_a, right_b in pairs], axis=1)
        drawn = np.concatenate([
            weights @ apart / weights.sum(axis=1, keepdims=True)
            for weights in of_units(units, draws, batch, block=BATCH)
        ])  # fmt: skip
        low, high = np.quantile(drawn, (tail, 1 - tail), axis=0)
        assert_as_compared(pairs[0], (low[0], high[0]), setting, draws, batch)
        lows.append(low)
        highs.append(high)
    better, worse = (np.concatenate(lows) > 0).mean(), (np.concatenate(highs) < 0).mean()
    return Rates(float(better), float(worse), comparisons)


def assert_as_compared(
    pair: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    interval: tuple[float, float],
    setting: Setting,
    draws: int,
    seed: int,
) -> None:
    accuracy = {"accuracy": (installed().get(Metric, "accuracy"), Params())}
    told = [probabilities(right) for right in pair]
    found = compare(
        *told, LABELS, metrics=accuracy, main="accuracy", groups=setting.drawn_by, draws=draws, seed=seed
    ).metrics["accuracy"]
    np.testing.assert_allclose((found.low, found.high), interval, atol=1e-6)


def probabilities(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    told = np.where(right, LABELS, (LABELS + 1) % len(COUNTS))
    return 0.9 * np.eye(len(COUNTS))[told] + 0.1 / len(COUNTS)


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────


def patients(count: int) -> NDArray[np.int64]:
    """Patients of unequal size, each with images of several classes."""
    chance = np.random.default_rng(count)
    shares = chance.dirichlet(np.full(count, 2.0), len(COUNTS))
    return np.concatenate([chance.choice(count, size, p=p) for size, p in zip(COUNTS, shares, strict=True)])


def slides(of_class: int) -> NDArray[np.int64]:
    """So many slides of each class, each of one class alone."""
    return LABELS * of_class + np.random.default_rng(of_class).integers(0, of_class, len(LABELS))


# ── What is printed ─────────────────────────────────────────────────────────────────────────────


def settings() -> Iterator[tuple[str, str, Setting]]:
    for discordance in (0.03, 0.06, 0.10, 0.18):
        yield "A against A, by image", f"discordance {discordance:.0%}", Setting(discordance)
    for name, groups in (
        ("50 patients", patients(50)),
        ("20 patients", patients(20)),
        ("8 patients", patients(8)),
        ("90 slides of one class each", slides(10)),
        ("18 slides of one class each", slides(2)),
    ):
        one = Setting(0.06, groups=groups, drawn_by=groups, spread=SPREAD)
        yield "A against A, by group, discordance 6%", name, one
    crossed = Setting(0.06, groups=patients(50), spread=SPREAD)
    yield "A against A, images drawn although patients differ, discordance 6%", "50 patients", crossed
    for discordance in (0.03, 0.05, 0.06, 0.07, 0.08, 0.10, 0.18):
        yield "B loses one point, by image", f"discordance {discordance:.0%}", Setting(discordance, 0.01)
    groups = patients(50)
    lost = Setting(0.06, 0.01, groups=groups, drawn_by=groups, spread=SPREAD)
    yield "B loses one point, by group, discordance 6%", "50 patients", lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1000, help="simulated for each line")
    parser.add_argument("--draws", type=int, default=2000, help="resamples of each comparison")
    asked = parser.parse_args()
    print(f"{asked.comparisons:,} comparisons a line, {asked.draws:,} resamples each, intervals at 95%")
    former = ""
    for seed, (title, name, setting) in enumerate(settings()):
        if title != former:
            print(f"\n{title}: B is called")
        former = title
        print(f"  {name:30} {rates(setting, asked.comparisons, asked.draws, seed)}", flush=True)


if __name__ == "__main__":
    main()
