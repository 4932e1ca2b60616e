"""Finds images that show the same, perhaps turned by right angles, flipped, recompressed or brighter.

Every image's thumbnail is flattened: what is brighter than its surroundings, measured by how much the
surroundings vary. So a strong edge counts no more than a faint nucleus, and two images that have only an
edge in common are not alike. Then:

1. Candidates. The sizes of the cosines that a flattened thumbnail is made of stay as they are when the image
   is turned or flipped. One product of matrices, block by block, compares them for all pairs.
2. Verification. The flattened thumbnails of a candidate pair are correlated in all eight orientations. Where
   an image shows little, such as one strand of tissue, many are alike in that: there the one must explain the
   other's levels, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.features import THUMBNAIL
from histoflow.data.audit.together import Together

T = TypeVar("T", bound=np.generic)
Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Measured on 4,000 patches of `tissue` at 64 pixels and copies made of them: JPEG of quality 40, noise of 6
# levels, 85 % of the brightness, 4 % cut off around. The least correlation among copies was 0.72, the
# greatest among 8 million other pairs 0.51; of the candidates' likeness, 0.69 and 0.60.
_SAME, _CANDIDATE = 0.6, 0.55
_LEAST_DETAIL, _RICH = 0.15, 0.75
"""Variance of a flattened thumbnail, at most 1: about the share of the image that shows something. Below the
first, recompression changes what little there is; from the second on, the correlation is proof enough."""
_UNEXPLAINED, _CHANGED = 0.2, 2.0
"""Share of the detail's variance that a copy may have of its own, apart from so many levels of change. Of
sparse images, copies as above had up to 0.003, with 4 % cut off 0.2 (99 of 100); two strands 0.33 or more."""
_OTHER_COLOUR = 48.0
"""Levels between the means of two images, beyond which they are not the same whatever they show."""
_BLUR, _NOISE = 2.0, 3.0  # pixels of the thumbnail; levels
_COSINES = 10
_ROWS, _COLUMNS, _PAIRS = 1024, 4096, 4096  # compared at once
_FEW, _SAMPLED = 30, 1024  # images too few to tell what is usual among them; pairs that are asked for it
_ENOUGH = 100
"""An image with so many copies makes one set of all that hang together with it, whose other pairs are passed
over: all pairs of a thousand copies are too many."""


@dataclass(frozen=True)
class Pairs:
    """Which images are alike, by position, and how the second has to be turned to look like the first."""

    first: Places
    second: Places
    turns: NDArray[np.int8]
    crowded: Places = field(default_factory=lambda: np.empty(0, np.int64))
    """Images with a great many copies: of all that hang together with one of them, not each pair is named."""


def turned(images: NDArray[T], turn: int) -> NDArray[T]:
    """N×H×W… images in one of the eight orientations: 1 upside down, 2 mirrored, 4 rows for columns."""
    seen = images.swapaxes(1, 2) if turn & 4 else images
    seen = seen[:, ::-1] if turn & 1 else seen
    return seen[:, :, ::-1] if turn & 2 else seen


def detailed(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images show enough to be known again."""
    shown = [_shown(flattened(part)) for part in _parts(thumbnails)]
    return np.concatenate([np.empty(0), *shown]) >= _LEAST_DETAIL


def _shown(flat: Floats) -> Floats:
    return np.asarray((flat**2).mean(axis=(1, 2)), np.float32)


def alike(thumbnails: NDArray[np.uint8], means: Floats) -> Pairs:
    """All pairs of these images that show the same, or at least so many that copies hang together by them.

    ``means`` (N×C) are of the images' channels. The order in which pairs come depends on the images alone.
    """
    grey = thumbnails.mean(axis=(1, 2))
    order = np.lexsort((*means.T, grey))  # images too different in brightness need not be compared
    search = _Search(thumbnails[order], means[order], grey[order])
    found = list(search.run())
    first, second, turns = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pairs(order[first], order[second], turns, order[search.crowded])


# ── The flattened thumbnail and its cosines ─────────────────────────────────────────────────────


def flattened(thumbnails: NDArray[np.uint8]) -> Floats:
    """N×24×24: how much brighter each place is than around it, over how much it varies there."""
    wide, detail = _blur(2 * _BLUR), _detail(thumbnails)
    varies = wide @ (detail * detail) @ wide.T
    return np.asarray(detail / np.sqrt(varies + np.float32(_NOISE**2)), np.float32)


def _detail(thumbnails: NDArray[np.uint8]) -> Floats:
    blur, grey = _blur(_BLUR), thumbnails.astype(np.float32)
    return np.asarray(grey - blur @ grey @ blur.T, np.float32)


@cache
def _blur(sigma: float) -> Floats:
    """A Gaussian as a matrix; what lies beyond the border is mirrored."""
    places = np.arange(THUMBNAIL)
    weights = np.zeros((THUMBNAIL, THUMBNAIL))
    for shift in range(-THUMBNAIL, THUMBNAIL + 1):
        seen = (places + shift) % (2 * THUMBNAIL)
        seen = np.minimum(seen, 2 * THUMBNAIL - 1 - seen)
        weights[places, seen] += np.exp(-0.5 * (shift / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def signatures(thumbnails: NDArray[np.uint8]) -> Floats:
    """N×82 of length 1, alike for images that are alike in whatever orientation."""
    return np.concatenate([np.empty((0, _usual().size), np.float32), *map(_signature, _parts(thumbnails))])


def _parts(thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(thumbnails), _PAIRS):
        yield thumbnails[start : start + _PAIRS]


def _signature(thumbnails: NDArray[np.uint8]) -> Floats:
    cosines = _cosines()
    sizes = np.sqrt(np.abs(cosines @ flattened(thumbnails) @ cosines.T))
    rows, columns, apart = _places()
    one, other = sizes[:, rows, columns], sizes[:, columns, rows]
    values = np.hstack([np.maximum(one, other), np.minimum(one, other)[:, apart]])
    return _unit(_unit(values) - _unit(values) @ _usual()[:, None] * _usual())


def _unit(values: Floats) -> Floats:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: Floats = values / np.maximum(length, np.float32(1e-9))
    return unit


@cache
def _cosines() -> Floats:
    place, wave = np.arange(THUMBNAIL), np.arange(_COSINES)[:, None]
    cosines: Floats = np.cos(np.pi * (2 * place + 1) * wave / (2 * THUMBNAIL)).astype(np.float32)
    return cosines


@cache
def _places() -> tuple[Places, Places, NDArray[np.bool_]]:
    """Row and column of one of each two cosines that turning exchanges, and where those are two."""
    rows, columns = np.triu_indices(_COSINES)
    size = np.hypot(rows, columns)
    used = (size > 0) & (size <= _COSINES - 0.5)
    return rows[used], columns[used], (rows != columns)[used]


@cache
def _usual() -> Floats:
    """The signature that any image has, of length 1: what is left without it tells images apart.

    Natural images hold half as much of a cosine twice as fine, of which flattening takes the coarse ones. The
    factors are the mean of the root of a normal variable's size, and of the greater and the lesser of two.
    """
    rows, columns, apart = _places()
    size = np.hypot(rows, columns)
    kept = 1 - np.exp(-0.5 * (_BLUR * np.pi * size / THUMBNAIL) ** 2)
    usual = np.sqrt(kept / size)
    return _unit(
        np.concatenate([usual * np.where(apart, 1.022, 0.823), usual[apart] * 0.623]).astype(np.float32)
    )


# ── The search ──────────────────────────────────────────────────────────────────────────────────

_Found = tuple[Places, Places, NDArray[np.int8]]


class _Search:
    """Through images in the order of their brightness."""

    def __init__(self, thumbnails: NDArray[np.uint8], means: Floats, grey: NDArray[np.float64]) -> None:
        self._thumbnails, self._means, self._grey = thumbnails, means, grey
        self._signatures = signatures(thumbnails)
        self._copies = np.zeros(len(thumbnails), np.int64)
        self._sets = Together(len(thumbnails))
        self.crowded = np.empty(0, np.int64)
        self._candidate, self._same = self._thresholds()

    def run(self) -> Iterator[_Found]:
        yield np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int8)
        for row in range(0, len(self._grey), _ROWS):
            last = self._grey[min(row + _ROWS, len(self._grey)) - 1]
            end = int(np.searchsorted(self._grey, last + _OTHER_COLOUR, side="right"))
            for column in range(row, end, _COLUMNS):
                for first, second in self._candidates(row, column, min(column + _COLUMNS, end)):
                    yield self._verified(first, second)

    def _candidates(self, row: int, column: int, end: int) -> Iterator[tuple[Places, Places]]:
        likeness = self._signatures[row : row + _ROWS] @ self._signatures[column:end].T
        places = np.flatnonzero(likeness > self._candidate)
        for start in range(0, len(places), _PAIRS):
            first, second = np.divmod(places[start : start + _PAIRS], end - column)
            first, second = first + row, second + column
            wanted = (first < second) & ~self._settled(first, second)
            yield first[wanted], second[wanted]

    def _settled(self, first: Places, second: Places) -> NDArray[np.bool_]:
        """Pairs of one set that counts as a whole."""
        if not len(self.crowded):
            return np.zeros(len(first), np.bool_)
        one, other = self._sets.of(first), self._sets.of(second)
        settled: NDArray[np.bool_] = (one == other) & np.isin(one, self._sets.of(self.crowded))
        return settled

    def _verified(self, first: Places, second: Places) -> _Found:
        near = np.abs(self._means[first] - self._means[second]).max(axis=1) <= _OTHER_COLOUR
        first, second = first[near], second[near]
        turns, same = self._same_in(first, second)
        found = first[same], second[same], turns[same]
        self._count(found[0], found[1])
        return found

    def _count(self, first: Places, second: Places) -> None:
        images, times = np.unique(np.concatenate([first, second]), return_counts=True)
        few = self._copies[images] < _ENOUGH
        self._copies[images] += times
        now = images[few & (self._copies[images] >= _ENOUGH)]
        self.crowded = np.concatenate([self.crowded, now])
        self._sets.join(first, second)

    def _same_in(self, first: Places, second: Places) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """The orientation in which the second is most like the first, and whether it is a copy."""
        ones, others = self._thumbnails[first], self._thumbnails[second]
        correlation, turns = correlated(ones, others)
        alike = correlation >= self._same
        rich = np.minimum(_shown(flattened(ones)), _shown(flattened(others))) >= _RICH
        doubtful = np.flatnonzero(alike & ~rich)
        upright = _upright(others[doubtful], turns[doubtful])
        alike[doubtful] = _unexplained(ones[doubtful], upright) <= _UNEXPLAINED
        return turns, alike

    def _thresholds(self) -> tuple[float, float]:
        """How alike candidates and copies must be.

        Images that are all taken alike, such as radiographs, have much in common without being copies:
        a copy must stand far above what any two of these images have in common.
        """
        count = len(self._grey)
        if count < _FEW:
            return _CANDIDATE, _SAME
        chance = np.random.default_rng(0)
        first = chance.integers(0, count, _SAMPLED)
        second = (first + chance.integers(1, count, _SAMPLED)) % count
        likeness = np.einsum("ns,ns->n", self._signatures[first], self._signatures[second])
        correlation, _ = correlated(self._thumbnails[first], self._thumbnails[second])
        return max(_CANDIDATE, _far_above(likeness, 4)), max(_SAME, _far_above(correlation, 7))


def _upright(thumbnails: NDArray[np.uint8], turns: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Each turned by its own turn."""
    upright = thumbnails.copy()
    for turn in range(8):
        upright[turns == turn] = turned(thumbnails[turns == turn], turn)
    return upright


def _unexplained(ones: NDArray[np.uint8], others: NDArray[np.uint8]) -> Floats:
    """The share of the detail of two thumbnails each that is not the same but for contrast."""
    first, second = _detail(ones), _detail(others)
    own, its = (np.einsum("nij,nij->n", detail, detail) / THUMBNAIL**2 for detail in (first, second))
    shared = np.einsum("nij,nij->n", first, second) / THUMBNAIL**2
    both = np.sqrt(own * its)
    rest = both - shared**2 / np.maximum(both, 1e-9)
    return np.asarray(np.maximum(rest - _CHANGED**2, 0) / np.maximum(np.minimum(own, its), 1e-9), np.float32)


def _far_above(values: Floats, spreads: float) -> float:
    """So many spreads above the middle, told from the lower half: copies stand in the upper one."""
    low, middle = np.quantile(values, [0.16, 0.5])
    return min(0.95, float(middle + spreads * (middle - low)))


def correlated(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.int8]]:
    """The correlation of flattened thumbnails, pair by pair, in the orientation where it is greatest."""
    first = _unit(flattened(one).reshape(len(one), THUMBNAIL**2))
    second = _unit(flattened(other).reshape(len(other), THUMBNAIL**2)).reshape(other.shape)
    values = np.stack(
        [np.einsum("np,np->n", first, turned(second, turn).reshape(first.shape)) for turn in range(8)]
    )
    return values.max(axis=0), values.argmax(axis=0).astype(np.int8)
