"""Reads a set that is larger than memory a little before its images are used, and forgets them after."""

from __future__ import annotations

from collections.abc import Callable

from histoflow.data.order import Blocked, Places
from histoflow.data.store import SplitReader


class Readahead:
    """Keeps about two windows of an order's blocks in memory: the one under way and most of the next."""

    def __init__(self, split: SplitReader, order: Blocked, chosen: Places | None) -> None:
        self._split, self._order, self._chosen = split, order, chosen
        self._asked: int | None = None
        self._left = 0

    def reach(self, start: int, end: int) -> None:
        """To be told from which position to which the next batch goes."""
        first, last = start // self._order.block, (end - 1) // self._order.block
        if self._asked is None:
            self._left = self._asked = first - first % self._order.window
        self._asked = self._advise(self._split.will_need, self._asked, last + self._order.window + 1)
        self._left = self._advise(self._split.done_with, self._left, first - self._order.window + 1)

    def _advise(self, advise: Callable[[int, int], None], begin: int, end: int) -> int:
        """Tell it of these blocks; returns the first that was not told of."""
        for number in range(begin, end):
            for start, stop in self._order.stretches(number):
                if self._chosen is None:
                    advise(start, stop)
                else:
                    advise(int(self._chosen[start]), int(self._chosen[stop - 1]) + 1)
        return max(begin, end)
