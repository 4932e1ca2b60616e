"""Image files on disk: how they are read, named, and told about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from histoflow import SplitName
from histoflow.images import read_rgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT_NAMES: Mapping[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What a split may be called, in lower case."""
_MOST = 5


@dataclass(frozen=True)
class FileReader:
    """Reads the image of a row. May be pickled; a million names travel faster than as many ``Path``."""

    names: Sequence[str]

    @classmethod
    def of(cls, files: Iterable[Path]) -> FileReader:
        return cls(tuple(map(str, files)))

    def __call__(self, row: int) -> NDArray[np.uint8]:
        return read_rgb(Path(self.names[row]))


def shown(name: str) -> str:
    """The name of a file as text that can be printed and stored: bytes that are no UTF-8 as ``\\xff``."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def some(names: Iterable[str]) -> str:
    """The first few, quoted, and how many more there are."""
    return few(f"'{shown(name)}'" for name in names)


def few(texts: Iterable[str]) -> str:
    rest = iter(texts)
    first = list(islice(rest, _MOST))
    more = sum(1 for _ in rest)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def lines_of(mistakes: Iterable[str]) -> Iterator[str]:
    yield from (f"  {mistake.rstrip('.')}." for mistake in mistakes)
