"""Prediction sets that hold the true class as often as asked (split conformal prediction).

How well a class fits an image is its probability. The level of a class is set so that on validation the asked
share of its images reach it, with the correction for finite samples: of n images, the ⌈(n + 1) × coverage⌉
likeliest. For images drawn like those of validation, sets then hold the true class at least so often; where
validation picked the model as well, it may be a little less.

Common classes have a level of their own, so that the promise holds for each of them. Rare ones share a level,
and for them the promise holds on average. Where images have several labels, each pair of an image and a class
that it shows counts as an image of that class.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ENOUGH = 50
"""Images of a class for a level of its own: of fewer, the level is a matter of two or three images."""


def fit_levels(
    calibrated: NDArray[np.float64], shown: NDArray[np.bool_], coverage: float
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """For each class the level from which on it belongs to the set, and what a reader must know of them.

    ``shown`` says, images × classes, which are true.
    """
    counts = shown.sum(axis=0)
    pooled = _pooled(counts)
    alone = [[one] for one in range(len(counts)) if one not in pooled]
    levels = np.empty(len(counts))
    notes = [_why_pooled(pooled, len(counts))] if pooled else []
    for classes in [pooled, *alone] if pooled else alone:
        truths = np.concatenate([calibrated[shown[:, one], one] for one in classes])
        levels[classes] = _level(truths, coverage)
        if levels[classes[0]] == 0:
            notes.append(f"{_named(classes, len(counts))} in every set: {_too_few(len(truths), coverage)}")
    return tuple(levels.tolist()), tuple(notes)


def _level(truths: NDArray[np.float64], coverage: float) -> float:
    """The probability that enough of these reach; 0, which all reach, where these are too few to tell."""
    wanted = ceil((len(truths) + 1) * coverage - 1e-9)
    return 0.0 if wanted > len(truths) else float(np.sort(truths)[-wanted])


def _pooled(counts: NDArray[np.int64]) -> list[int]:
    """The rare classes, and as many of the next rarest as it takes to have enough images together."""
    order = np.argsort(counts, kind="stable")
    rare = int((counts < ENOUGH).sum())
    while 0 < rare < len(counts) and counts[order[:rare]].sum() < ENOUGH:
        rare += 1
    return sorted(int(one) for one in order[:rare])


def _why_pooled(pooled: Sequence[int], classes: int) -> str:
    some = "some" if len(pooled) == classes else "some of them"
    return (
        f"one level for {_named(pooled, classes)}, as validation holds fewer than {ENOUGH} images of {some}"
    )


def _too_few(images: int, coverage: float) -> str:
    least = ceil(coverage / (1 - coverage) - 1e-9)
    return f"validation holds {images} images to tell from, and a coverage of {coverage:g} takes {least}"


def _named(classes: Sequence[int], of: int) -> str:
    if len(classes) == of:
        return "all classes"
    *head, last = map(str, classes)
    return f"classes {', '.join(head)} and {last}" if head else f"class {last}"
