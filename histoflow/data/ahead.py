"""Items that a thread makes ready while those before them are worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def drawn_ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The items, of which a thread has up to ``depth`` ready.

    An error in making one is raised where that item would have come. Closing this iterator ends the thread
    after the item under way.
    """
    with ThreadPoolExecutor(1, "batches") as thread:
        waiting = deque(thread.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()
