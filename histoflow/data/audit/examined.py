"""What the checks of the audit are told: every readable image, its split, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import Task
from histoflow.data.audit.closer import READ_AT_ONCE, CloseLook

Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The images that could be read, one entry each, in the order of the data set's rows."""

    task: Task
    classes: tuple[str, ...]
    labels: NDArray[Any]
    """N int64; for ``multilabel`` N × classes uint8 of zeros and ones."""
    splits: NDArray[np.int8]
    """Each an index into ``SPLITS``."""
    sources: Sequence[str]
    groups: Sequence[str] | None
    hashes: NDArray[np.bytes_]
    """S16: alike for images that are alike pixel for pixel after preprocessing."""
    features: Mapping[str, NDArray[Any]]
    """What ``features.describe`` measured; each array has N entries."""
    files: Mapping[str, NDArray[Any]]
    """What ``features.describe_file`` found of each image's file, NaN where unknown, where images are files;
    and of every image its ``width`` and ``height`` before preprocessing."""
    images: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    """The packed pixels of the images at these places, N×H×W×C."""
    copies: NDArray[np.int64] | None = None
    """Alike for images that hang together as copies; -1 for those without. None until found."""

    @cached_property
    def closer(self) -> CloseLook:
        """Measures more of the images at the places that it is asked about."""
        return CloseLook(self.images)

    def seen(self, places: NDArray[np.int64], measure: Callable[[Images], NDArray[Any]]) -> NDArray[Any]:
        """What is measured of the pixels of the images at these places."""
        starts = range(0, max(1, len(places)), READ_AT_ONCE)
        parts = (self.images(places[start : start + READ_AT_ONCE]) for start in starts)
        return np.concatenate([measure(part) for part in parts])

    def without(self, positions: Sequence[int]) -> Examined:
        """The same, as if the images at these positions had never been."""
        kept = np.delete(np.arange(len(self.splits)), np.asarray(positions, np.int64))
        return replace(
            self,
            labels=self.labels[kept],
            splits=self.splits[kept],
            sources=[self.sources[place] for place in kept.tolist()],
            groups=None if self.groups is None else [self.groups[place] for place in kept.tolist()],
            hashes=self.hashes[kept],
            copies=None if self.copies is None else self.copies[kept],
            features={name: values[kept] for name, values in self.features.items()},
            files={name: values[kept] for name, values in self.files.items()},
            images=lambda places: self.images(kept[places]),
        )
