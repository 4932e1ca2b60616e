"""What will be read is asked for in time, and forgotten only when nothing needs it any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoflow.data.order import Blocked, Places
from histoflow.data.readahead import Readahead
from histoflow.data.store import SplitFacts, SplitReader, shard_name


class Advised(SplitReader):
    """Keeps which images would be in memory."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.most = 0

    def will_need(self, start: int, stop: int) -> None:
        self.held |= set(range(start, stop))
        self.most = max(self.most, len(self.held))

    def done_with(self, start: int, stop: int) -> None:
        self.held -= set(range(start, stop))


@pytest.mark.parametrize("chosen", [None, np.arange(0, 3 * 2003, 3)], ids=["all", "share"])
@pytest.mark.parametrize("first", [0, 1234])
def test_images_are_in_memory_when_their_batch_comes(chosen: Places | None, first: int) -> None:
    order, split = Blocked(2003, 5, block=10, window=8), Advised()
    ahead = Readahead(split, order, chosen)
    for start in range(first, 2003, 16):
        end = min(start + 16, 2003)
        ahead.reach(start, end)
        drawn = order(np.arange(start, end))
        assert set((drawn if chosen is None else chosen[drawn]).tolist()) <= split.held
    of_each = 1 if chosen is None else 3
    assert split.most < of_each * 10 * (2 * order.window + 3 + order.window)


def test_advised_images_stay_readable(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8)
    for index, part in enumerate((images[:200], images[200:])):
        np.save(tmp_path / shard_name(index), part)
    facts = SplitFacts(images=300, counts=(300,), groups=None, shards=(200, 100), files={})
    split = SplitReader(tmp_path, facts)
    for start, stop in [(0, 300), (199, 201), (5, 6), (200, 300)]:
        split.will_need(start, stop)
        split.done_with(start, stop)
        assert np.array_equal(split.gather(np.arange(300)[::-1]), images[::-1])
