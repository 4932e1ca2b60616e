"""Deals the rows of one data set to their splits, and refuses what leaves a split empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, Row, Samples
from histoflow.data.laying import labels_of
from histoflow.data.splits import advice, best_seed, dealer, key_of
from histoflow.errors import DataError

Splits = NDArray[np.int8]


class Splitter:
    """Knows how the rows of these samples are dealt under these settings of ``split``."""

    def __init__(self, samples: Samples, settings: Mapping[str, Any]) -> None:
        self._samples = samples
        self.deal = dealer(samples.rows, **settings)
        self._official = {row.split for row in samples.rows}
        self.asked = {name: settings[name] for name in ("val", "test") if name not in self._official}
        """The shares of the splits that are dealt out rather than brought."""

    @property
    def by_pixels(self) -> bool:
        """Whether it takes an image's pixels to say where it goes."""
        return bool(self.asked) and self._samples.rows[0].group is None

    def refuse_early(self) -> None:
        """Before any image is read, where it can be said then that a split will stay empty."""
        if not self.by_pixels:
            rows = self._samples.rows
            keys = [""] * len(rows)
            splits = [SPLITS.index(self.deal(row, "")) for row in rows]
            self.refuse_empty(rows, keys, np.array(splits, np.int8))

    def refuse_empty(self, rows: Sequence[Row], keys: Sequence[str], splits: Splits) -> None:
        """``splits`` are indices into ``SPLITS``; ``keys`` are the hashes of the rows' images."""
        empty = [name for place, name in enumerate(SPLITS) if not (splits == place).any()]
        if empty:
            raise DataError(f"No image fell into the {' and '.join(empty)} split. {self._advice(rows, keys)}")

    def _advice(self, rows: Sequence[Row], keys: Sequence[str]) -> str:
        dealt = [place for place, row in enumerate(rows) if row.split in (None, "train")]
        if not dealt or not self.asked:
            return "Its images are missing, unreadable or left out. Add some, or change the audit's settings."
        names = [key_of(rows[place], keys[place]) for place in dealt]
        labels = labels_of([rows[place] for place in dealt], self._samples)
        shares = (self.asked.get("val", 0.0), self.asked.get("test", 0.0))
        return advice(best_seed(names, labels, *shares), names)
