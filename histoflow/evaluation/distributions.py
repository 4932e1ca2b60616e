"""How far two sets of images differ in the distribution of a figure, and how far they do by chance.

Values are counted in bins whose edges are the deciles of the first set; where many values are the same, as
in images without colour, these have a bin of their own. Of two counts the Jensen–Shannon distance is taken:
the root of their divergence in bits, from 0 (the same shares) to 1 (no bin in common), with no need to do
anything about empty bins. How large it is by chance depends on how many images there are, and on how alike
those of one slide are; so what is normal is not a number out of a book but drawn from the first set itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 30
"""Images, for a distribution of ten parts."""
FEWEST_GROUPS = 5
"""Of fewer, how far groups differ cannot be told."""
_PARTS = 10
_DRAWS = 500
_INSIDE = 0.99
_SIZES = (30, 100, 300, 1_000, 3_000, 10_000)


@dataclass(frozen=True, eq=False)
class Bands:
    """How large distances are by chance."""

    sizes: tuple[int, ...]
    """Images in a block, ascending."""
    limits: NDArray[np.float64]
    """Figures × sizes: of all blocks of that size, 99 % lie within the limits of every figure at once."""


def edges_of(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.unique(np.quantile(values.astype(np.float64), np.arange(1, _PARTS) / _PARTS))


def bins_of(edges: Sequence[float]) -> int:
    return 2 * len(edges) + 1


def places(values: NDArray[Any], edges: Sequence[float]) -> NDArray[np.int64]:
    """The bin of each value: between two edges, or the odd one of a value that is an edge."""
    found = (np.searchsorted(edges, values, side) for side in ("left", "right"))
    return np.asarray(sum(found), np.int64)


def distance(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Jensen–Shannon, of counts along the last axis."""
    shares = [counts / counts.sum(axis=-1, keepdims=True) for counts in (first, second)]
    middle = (shares[0] + shares[1]) / 2
    divergence = sum(_divergence(one, middle) for one in shares) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0)))


def _divergence(shares: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback–Leibler, in bits; what never occurs adds nothing."""
    ratio = np.divide(shares, middle, out=np.ones_like(shares), where=shares > 0)
    return np.asarray((shares * np.log2(ratio)).sum(axis=-1))


def bands(
    columns: Sequence[NDArray[np.int64]], bins: Sequence[int], groups: NDArray[Any] | None, seed: int
) -> Bands:
    """Of the bins that images lie in, a column for each figure, with so many bins.

    Blocks are drawn with replacement, whole groups where there are any, the last one cut to fit; and the set
    itself is drawn anew for each, for it is no more than one of many that could have been.
    """
    count = len(columns[0])
    sizes = tuple(sorted({size for size in _SIZES if size < count} | {max(count, FEWEST)}))
    starts = np.cumsum((0, *bins))
    codes = np.stack(columns, axis=1) + starts[:-1]
    cuts = tuple(sorted({*sizes, count}))
    drawn = np.stack(list(_counted(codes, int(starts[-1]), _blocks(count, groups, cuts[-1], seed), cuts)))
    whole = np.roll(drawn[:, cuts.index(count)], 1, axis=0)  # the set of one draw, the blocks of another
    parts = list(pairwise(starts))
    further = _further(count if groups is None else len(np.unique(groups)), len(columns))
    limits = []
    for size in sizes:
        blocks = drawn[:, cuts.index(size)]
        far = np.stack([distance(whole[:, begin:end], blocks[:, begin:end]) for begin, end in parts])
        widened = 1 - (1 - np.minimum(_limits(far), 1)) ** further  # of distances, which end at 1
        limits.append(np.maximum(widened, _unseen(min(size, count))))
    return Bands(sizes, np.stack(limits, axis=1))


def _limits(far: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each figure's 99th percentile, all widened alike until 99 % of the draws lie within all of them."""
    each = np.quantile(far, _INSIDE, axis=1)
    beyond = np.divide(far, each[:, None], out=np.zeros_like(far), where=each[:, None] > 0).max(axis=0)
    return np.asarray(each * max(1.0, float(np.quantile(beyond, _INSIDE))))


def _further(units: int, figures: int) -> float:
    """How many times as far limits lie where so few units (groups or images) are drawn from.

    Draws from few of them vary less than new ones would, and leave out what is rare. Both are made good as
    for intervals (``paired.tail_of``): by going as far out as Student's t is beyond the normal distribution,
    here at the level that each of so many figures must keep for all to lie inside.
    """
    from scipy.special import ndtri, stdtrit  # type: ignore[import-untyped]

    level, freedom = 1 - (1 - _INSIDE) / (2 * figures), units - 1
    return float(stdtrit(freedom, level) / ndtri(level) * sqrt(units / freedom))


def _unseen(images: int) -> float:
    """The least that a limit may be: what none of the images showed is not impossible.

    In 99 of 100 sets of this size something shows at least once, if its share is the one taken here.
    """
    share = 1 - (1 - _INSIDE) ** (1 / images)
    return float(distance(np.array([1.0, 0.0]), np.array([1 - share, share])))


def _blocks(count: int, groups: NDArray[Any] | None, longest: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Images of each draw, in an order of which any beginning is a block."""
    chance = np.random.default_rng(seed)
    if groups is None:
        yield from (chance.integers(0, count, longest) for _ in range(_DRAWS))
        return
    of_image = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(of_image)
    starts = np.cumsum(sizes) - sizes
    for _ in range(_DRAWS):
        mixed = chance.permutation(count)
        by_group = mixed[np.argsort(of_image[mixed], kind="stable")]
        drawn = _enough(sizes, longest, chance)
        begins = np.cumsum(sizes[drawn]) - sizes[drawn]
        inside = np.repeat(starts[drawn] - begins, sizes[drawn])
        yield by_group[(inside + np.arange(len(inside)))[:longest]]


def _enough(sizes: NDArray[np.int64], images: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Groups drawn until they hold so many images."""
    drawn = chance.integers(0, len(sizes), len(sizes))
    while sizes[drawn].sum() < images:
        drawn = np.concatenate([drawn, chance.integers(0, len(sizes), len(sizes))])
    return drawn


def _counted(
    codes: NDArray[np.int64], bins: int, blocks: Iterator[NDArray[np.int64]], cuts: Sequence[int]
) -> Iterator[NDArray[np.int64]]:
    """For each draw, cuts × bins: how often each bin occurs up to there."""
    for block in blocks:
        parts = [np.bincount(codes[block[a:b]].ravel(), minlength=bins) for a, b in pairwise((0, *cuts))]
        yield np.cumsum(parts, axis=0)


def limit_for(images: int, sizes: Sequence[int], limits: Sequence[float]) -> float:
    """Between the sizes that were drawn; chance falls with the root of the number of images."""
    squares = np.interp(-1 / images, [-1 / size for size in sizes], np.square(limits))
    return float(np.sqrt(squares))
