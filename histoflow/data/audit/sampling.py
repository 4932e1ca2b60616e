"""Which images a probe looks at, where it need not look at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, SplitName
from histoflow.data.audit.examined import Examined


def some_of(examined: Examined, split: SplitName, most: int) -> NDArray[np.int64]:
    """Positions of at most so many images of the split, ascending, evenly from each class."""
    places = np.flatnonzero(examined.splits == SPLITS.index(split))
    if len(places) <= most:
        return places
    if examined.labels.ndim == 1:
        places = places[np.argsort(examined.labels[places], kind="stable")]
    return np.sort(places[np.linspace(0, len(places) - 1, most).astype(np.int64)])
