"""Which image stands at which position of an epoch, without a list of all of them.

An order is a pure function of a key and of positions: any step of any epoch is reached at once, and a hundred
million images take no more memory than ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from histoflow.seeds import derive

Places = NDArray[np.int64]
Order = Callable[[Places], Places]
"""From positions within an epoch to images."""

_ROUNDS = 8
_CHUNK = 2**16


class Permutation:
    """The numbers below ``size``, shuffled: a Feistel network over the bits, walked until it lands inside."""

    def __init__(self, size: int, key: int) -> None:
        bits = max(2, (size - 1).bit_length())
        self._size = np.uint64(size)
        self._low_bits = np.uint64(bits // 2)
        self._low = np.uint64((1 << bits // 2) - 1)
        self._high = np.uint64((1 << bits - bits // 2) - 1)
        self._keys = [np.uint64(derive(key, number)) for number in range(_ROUNDS)]

    def __call__(self, positions: Places) -> Places:
        found = self._shuffled(positions.astype(np.uint64))
        while (outside := np.flatnonzero(found >= self._size)).size:
            found[outside] = self._shuffled(found[outside])
        return found.astype(np.int64)

    def _shuffled(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low, high = numbers & self._low, numbers >> self._low_bits
        for one, other in zip(self._keys[::2], self._keys[1::2], strict=True):
            high ^= _mixed(low + one) & self._high
            low ^= _mixed(high + other) & self._low
        return high << self._low_bits | low


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each bit of the result hangs on every bit of the number; overwrites it (SplitMix64's last steps)."""
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def uniform(positions: Places, key: int) -> NDArray[np.float64]:
    """A number from 0 up to 1 for each position."""
    start, step = np.uint64(derive(key)), np.uint64(0x9E3779B97F4A7C15)
    bits: NDArray[np.uint64] = _mixed(_mixed(positions.astype(np.uint64) * step + start) + step)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Blocked:
    """Every image once, read nearly in stored order: for sets that are larger than memory.

    Blocks of images that lie side by side come in a shuffled order, and within a window of so many blocks
    the images are shuffled again. Where the first block begins differs from epoch to epoch.
    """

    def __init__(self, size: int, key: int, *, block: int, window: int) -> None:
        self._size, self._key, self.block = size, key, block
        self._whole = size // block
        self.window = -(-self._whole // max(1, self._whole // window)) or 1
        """Blocks in a window: what was asked for or a little more, so that no window is much smaller."""
        self._last_window = max(0, -(-self._whole // self.window) - 1)
        self._offset = derive(key, 0) % size
        self._blocks = Permutation(max(1, self._whole), derive(key, 1))

    def __call__(self, positions: Places) -> Places:
        windows = np.minimum(positions // (self.window * self.block), self._last_window)
        places = np.empty_like(positions)
        for window in np.unique(windows):
            inside = windows == window
            places[inside] = self._within(int(window), positions[inside])
        return places

    def _within(self, window: int, positions: Places) -> Places:
        start = window * self.window * self.block
        size = self._size - start if window == self._last_window else self.window * self.block
        shuffled = start + Permutation(size, derive(self._key, 2, window))(positions - start)
        places: Places = (
            self._offset + self._read(shuffled // self.block) + shuffled % self.block
        ) % self._size
        return places

    def _read(self, blocks: Places) -> Places:
        """Where these blocks begin; the images that fill no block are the last one."""
        read = blocks.copy()
        whole = blocks < self._whole
        read[whole] = self._blocks(blocks[whole])
        return read * self.block

    def stretches(self, number: int) -> Iterator[tuple[int, int]]:
        """From where to where the block lies that is read as this one; in two parts, where it goes round."""
        if not 0 <= number * self.block < self._size:
            return
        read = int(self._read(np.array([number]))[0])
        begin = (self._offset + read) % self._size
        end = begin + min(self.block, self._size - read)
        yield begin, min(end, self._size)
        if end > self._size:
            yield 0, end - self._size


def balanced(labels: Places) -> Callable[[int], Order]:
    """Every class equally often, and within it each image equally likely, with replacement."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts, present = np.cumsum(counts) - counts, np.flatnonzero(counts)

    def order_for(key: int) -> Order:
        dealt = Permutation(len(labels), derive(key, 0))

        def order(positions: Places) -> Places:
            drawn = present[dealt(positions) % len(present)]
            inside = (uniform(positions, derive(key, 1)) * counts[drawn]).astype(np.int64)
            places: Places = by_class[starts[drawn] + inside]
            return places

        return order

    return order_for


def weighted(weights: NDArray[np.float64]) -> Callable[[int], Order]:
    """Each image as likely as its weight says, with replacement."""
    reached = np.cumsum(weights / weights.sum())
    reached[-1] = 1  # whatever rounding made of it

    def order_for(key: int) -> Order:
        return lambda positions: np.searchsorted(reached, uniform(positions, key), side="right")

    return order_for


class InChunks:
    """An order that is asked for stretches, one after the other; works out many positions at a time."""

    def __init__(self, order: Order, size: int) -> None:
        self._order, self._size = order, size
        self._begin, self._known = 0, np.empty(0, np.int64)

    def between(self, start: int, end: int) -> Places:
        if not self._begin <= start <= end <= self._begin + len(self._known):
            self._begin = start
            until = min(self._size, max(end, start + _CHUNK))
            self._known = self._order(np.arange(start, until))
        return self._known[start - self._begin : end - self._begin]
