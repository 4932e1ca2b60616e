"""Drift: how often images of the same kind are called drift by chance, and how often a shift is seen.

Nine figures of each image are normal, and a part of their variance is that of the slide. New images are drawn
as those of validation were, and then with the first figure shifted by one and by three standard deviations.
The bands promise that of the former about 1 in 100 sets leaves them. A few slides, or one, are no sample of a
mixture of slides: they are there to show what becomes of them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from side_by_side import describe

from histoflow.evaluation import distributions
from histoflow.evaluation.distributions import Bands

Floats = NDArray[np.float64]

FIGURES = 9
SHIFTS = (0.0, 1.0, 3.0)
"""Of the first figure, in standard deviations."""


@dataclass(frozen=True)
class Kind:
    """What is known of validation, and how much is new."""

    slides: int
    images: int
    """Of each slide."""
    new: int
    """Slides."""
    shared: float
    """The part of the variance that is the slide's."""

    def __str__(self) -> str:
        each = f"{self.slides:3} slides of {self.images:3} images"
        known = each if self.images > 1 else f"{self.slides:3} images"
        return f"{known:24} {self.new:3} new, shared {self.shared:.1f}"

    def draw(self, chance: np.random.Generator, slides: int) -> Floats:
        """Images × figures, slide by slide."""
        of_slide = np.repeat(chance.normal(0, self.shared**0.5, (slides, FIGURES)), self.images, axis=0)
        return of_slide + chance.normal(0, (1 - self.shared) ** 0.5, of_slide.shape)


KINDS = (
    Kind(800, 1, 800, 0.0),
    Kind(800, 1, 100, 0.0),
    Kind(100, 8, 100, 0.3),
    Kind(20, 40, 20, 0.3),
    Kind(20, 40, 20, 0.6),
    Kind(10, 80, 10, 0.3),
    Kind(5, 160, 5, 0.3),
    Kind(20, 40, 5, 0.3),
    Kind(20, 40, 1, 0.3),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100, help="of validation and new images, of each kind")
    asked = parser.parse_args()
    title, machine, _ = describe(f"Called drift, of {asked.draws} draws, {FIGURES} figures", 1).splitlines()[
        1:
    ]
    print(f"\n{title}\n{machine}\n  {'shifted by standard deviations of one figure:':45}  none     1     3")
    begin = time.process_time()
    for kind in KINDS:
        shares = np.mean([outside(kind, seed) for seed in range(asked.draws)], axis=0)
        print(f"  {kind!s:45} {' '.join(f'{share:5.0%}' for share in shares)}")
    print(f"  {time.process_time() - begin:.0f} s of processor time")


def outside(kind: Kind, seed: int) -> list[bool]:
    """Whether new images leave the bands, for each of the shifts."""
    chance = np.random.default_rng(seed)
    known, new = kind.draw(chance, kind.slides), kind.draw(chance, kind.new)
    edges = [distributions.edges_of(values) for values in known.T]
    before = [distributions.places(values, one) for values, one in zip(known.T, edges, strict=True)]
    groups = None if kind.images == 1 else np.repeat(np.arange(kind.slides), kind.images)
    bands = distributions.bands(before, [distributions.bins_of(one) for one in edges], groups, seed)
    first = np.eye(1, FIGURES)
    return [leaves(before, new + shift * first, edges, bands) for shift in SHIFTS]


def leaves(before: list[NDArray[np.int64]], new: Floats, edges: list[Floats], bands: Bands) -> bool:
    for places, values, one, limits in zip(before, new.T, edges, bands.limits, strict=True):
        bins = distributions.bins_of(one)
        counts = (np.bincount(at, minlength=bins) for at in (places, distributions.places(values, one)))
        if distributions.distance(*counts) > distributions.limit_for(len(new), bands.sizes, limits):
            return True
    return False


if __name__ == "__main__":
    main()
