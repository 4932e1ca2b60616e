"""Batches that report each step to whoever shows progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from histoflow import progress
from histoflow.data.batches import TrainBatches
from histoflow.engine.batch import Batch


class CountedBatches:
    """The same batches, each reported once it has been worked on."""

    def __init__(self, batches: TrainBatches, epochs: int) -> None:
        self._batches, self._epochs = batches, epochs
        self.is_resident = batches.is_resident
        self.chance, self.side, self.make = batches.chance, batches.side, batches.make

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        with self._tracked(epoch, first_step) as advance:
            for batch in self._batches.epoch(epoch, first_step):
                yield batch
                advance(batch.of or len(batch.labels))

    def places(self, epoch: int, first_step: int = 0) -> Iterator[NDArray[np.int64]]:
        with self._tracked(epoch, first_step) as advance:
            for places in self._batches.places(epoch, first_step):
                yield places
                advance(len(places))

    @contextmanager
    def _tracked(self, epoch: int, first_step: int) -> Iterator[progress.Advance]:
        with progress.track(f"Epoch {epoch} of {self._epochs}", total=self._batches.images) as advance:
            if first_step:
                advance(self._batches.images_before(first_step))
            yield advance
