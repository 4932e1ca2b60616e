"""What the checks of the audit are told: every readable image, its split, and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import Task


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
    """What ``features.describe_file`` found of each image's file, NaN where unknown; empty without files."""
    images: Callable[[NDArray[np.int64]], NDArray[np.uint8]]
    """The packed pixels of the images at these places, N×H×W×C."""
