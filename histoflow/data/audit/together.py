"""Sets of things that belong together, joined pair by pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


class Together:
    """Numbers from 0 on, each a set of its own until it is joined to another; a set goes by its least one."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def join(self, first: Places, second: Places) -> None:
        """The sets of the first and the second of each pair become one."""
        while True:
            one, other = self.of(first), self.of(second)
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def join_alike(self, keys: NDArray[np.generic]) -> None:
        """Numbers of the same key become one set."""
        _, foremost, key = np.unique(keys, return_index=True, return_inverse=True)
        self.join(np.arange(len(keys)), foremost[key.reshape(-1)])

    def of(self, places: Places) -> Places:
        """The least number of the set of each of these."""
        found = self._parent[places]
        while not np.array_equal(above := self._parent[found], found):
            found = above
        self._parent[places] = found  # so that the way is short the next time
        return found

    @property
    def all(self) -> Places:
        """The least number of the set of each, in turn."""
        return self.of(np.arange(len(self._parent)))
