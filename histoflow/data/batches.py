"""Batches from packed data: which images, in which order, changed in which way, as tensors.

The batch at (seed, epoch, step) and its augmentation follow from those three numbers alone, so a
resumed training sees what an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from histoflow.components import Sampler
from histoflow.data.order import Blocked, InChunks, Order, Permutation, Places, balanced, weighted
from histoflow.data.pixels import Buffers, Pixels, resized
from histoflow.data.readahead import Readahead
from histoflow.data.sources import Resident, Stored, source_of
from histoflow.data.store import SplitReader
from histoflow.engine.batch import Batch
from histoflow.engine.plan import Residence
from histoflow.errors import DataError
from histoflow.seeds import Stream, derive

_T = TypeVar("_T", bound=np.generic)
Augment = Callable[[Tensor, Generator], Tensor]
Mix = Callable[[Tensor, Generator], tuple[Tensor, Tensor, Tensor]]
"""Images → images, which of the batch was mixed into each, and how much of each is its own."""

_BLOCK_BYTES = 2**20
_WINDOW_BLOCKS = 512


def full_size(epoch: int) -> None:
    """The images' side in an epoch, where it never changes."""


class TrainBatches:
    """The training split, in another order and with other augmentation in every epoch.

    On the CPU a batch is valid until the next one is asked for: its memory is used again. Of several
    processes, each works on a part of its own of each batch: ``rank`` is which of them this is.
    """

    def __init__(
        self,
        split: SplitReader,
        pixels: Pixels,
        *,
        batch_size: int,
        seed: int,
        sampler: Sampler = "shuffle",
        share: float = 1.0,
        drop_last: bool = False,
        early: Sequence[Augment] = (),
        augment: Sequence[Augment] = (),
        mix: Mix | None = None,
        side: Callable[[int], int | None] = full_size,
        residence: Residence = "host",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """``early`` changes uint8 images, ``augment`` floats from 0 to 1, and ``mix`` what came of both."""
        _refuse_empty(split)
        self._split, self._pixels, self._seed = split, pixels, seed
        self._early, self._augment, self._mix = early, augment, mix
        self.side = side
        """The images' shorter side in an epoch; None where they have their full size."""
        self._rank, self._ranks = rank, ranks
        self._chosen = (
            None if share == 1 else stratified_share(split.labels, share, derive(seed, Stream.SHARE))
        )
        self._cut = _Cut(self._count, batch_size, drop_last, ranks)
        self._source = source_of(split, pixels.device, residence)
        self._order_for = self._orders(sampler, streams=residence == "stream")

    def __len__(self) -> int:
        return len(self._cut)

    @property
    def images(self) -> int:
        """Images in an epoch, of all processes together."""
        return self._cut.between(len(self) - 1)[1]

    def images_before(self, step: int) -> int:
        """Images in the steps of an epoch before this one, of all processes together."""
        return self._cut.between(step - 1)[1] if step else 0

    def images_of(self, step: int) -> int:
        """Images in this step of an epoch, of all processes together."""
        start, end = self._cut.between(step)
        return end - start

    @property
    def is_resident(self) -> bool:
        """Whether the device can make batches alone."""
        return isinstance(self._source, Resident)

    def bring(self) -> None:
        """Bring the images to where they are to lie, if that is the device."""
        if isinstance(self._source, Resident):
            self._source.bring()

    def chance(self, epoch: int, step: int) -> int:
        """The seed of all that is drawn in changing the images of this step."""
        place = (epoch, step) if self._ranks == 1 else (epoch, step, self._rank)
        return derive(self._seed, Stream.AUGMENT, *place)

    def places(self, epoch: int, first_step: int = 0) -> Iterator[Places]:
        """Where in the split the images of each step stand, as far as they are this process's."""
        order = self._order_for(derive(self._seed, Stream.ORDER, epoch))
        chunks = InChunks(order, self._count)
        ahead = Readahead(self._split, order, self._chosen) if isinstance(order, Blocked) else None
        for step in range(first_step, len(self)):
            start, end = self._cut.between(step)
            if ahead:
                ahead.reach(start, end)
            drawn = self._own(chunks.between(start, end))
            yield drawn if self._chosen is None else self._chosen[drawn]

    def _own(self, places: Places) -> Places:
        """This process's part of a batch."""
        return places if self._ranks == 1 else np.array_split(places, self._ranks)[self._rank]

    def make(self, places: Tensor, generator: Generator, side: int | None) -> Batch:
        """The batch of the images at these places; all of it the device's work, which nothing waits for.

        Only for resident images.
        """
        assert isinstance(self._source, Resident)
        return self._changed(self._source.take(places), generator, side)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        generator = Generator(self._pixels.device)
        side = self.side(epoch)
        buffers = _buffers(self._pixels.device)
        batches = self._source.batches(self.places(epoch, first_step))
        for step, stored in enumerate(batches, start=first_step):
            generator.manual_seed(self.chance(epoch, step))
            batch = self._changed(stored, generator, side, buffers)
            yield batch if self._ranks == 1 else batch._replace(of=self.images_of(step))

    def _changed(
        self, stored: Stored, generator: Generator, side: int | None, buffers: Buffers | None = None
    ) -> Batch:
        images, labels = resized(stored.images, side), stored.labels
        for augment in self._early:
            images = augment(images, generator)
        if not self._augment and self._mix is None:
            return Batch(self._pixels.normalised_bytes(images, buffers), labels)
        images = self._pixels.unit(images, buffers)
        for augment in self._augment:
            images = augment(images, generator)
        if self._mix is None:
            return Batch(self._pixels.normalise(images, buffers), labels)
        images, partners, shares = self._mix(images, generator)
        return Batch(
            self._pixels.normalise(images, buffers), labels, labels.index_select(0, partners), shares
        )

    @property
    def _count(self) -> int:
        return len(self._split) if self._chosen is None else len(self._chosen)

    def _orders(self, sampler: Sampler, *, streams: bool) -> Callable[[int], Order]:
        if sampler == "balanced":
            return balanced(self._of_chosen(self._split.labels))
        if sampler == "weighted":
            return weighted(self._of_chosen(_weights(self._split)))
        if streams:  # only this order can be read nearly as it lies on disk
            block = max(1, _BLOCK_BYTES // self._split.image_bytes)
            return lambda key: Blocked(self._count, key, block=block, window=_WINDOW_BLOCKS)
        return lambda key: Permutation(self._count, key)

    def _of_chosen(self, column: NDArray[_T]) -> NDArray[_T]:
        return column if self._chosen is None else column[self._chosen]


class EvalBatches:
    """Images and labels of a split in its stored order, without augmentation.

    On the CPU the images are valid until the next batch is asked for: their memory is used again. Of several
    processes, each takes a part of its own: ``rank`` is which of them this is.
    """

    def __init__(
        self,
        split: SplitReader,
        pixels: Pixels,
        batch_size: int,
        residence: Residence = "host",
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        _refuse_empty(split)
        _refuse_fewer_than(ranks, split)
        self._split, self._pixels, self._batch_size = split, pixels, batch_size
        self._begin, self._end = len(split) * rank // ranks, len(split) * (rank + 1) // ranks
        self._source = source_of(split, pixels.device, residence)

    def __len__(self) -> int:
        return -(-(self._end - self._begin) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        buffers = _buffers(self._pixels.device)
        for images, labels in self._source.batches(self._places()):
            yield self._pixels.normalised_bytes(images, buffers), labels

    def changed(self, change: Callable[[Tensor], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, once the images, floats from 0 to 1, have been changed in this way."""
        buffers = _buffers(self._pixels.device)
        for images, labels in self._source.batches(self._places()):
            unit = self._pixels.unit(images, buffers)
            yield self._pixels.normalise(change(unit), buffers), labels

    def _places(self) -> Iterator[Places]:
        for start in range(self._begin, self._end, self._batch_size):
            yield np.arange(start, min(start + self._batch_size, self._end))


@dataclass(frozen=True)
class _Cut:
    """Cuts the images of an epoch into batches.

    Images left over that are too few for batch norm, which needs two for each process, join the batch before.
    """

    images: int
    batch_size: int
    drop_last: bool
    ranks: int

    def __post_init__(self) -> None:
        if min(self.images, self.batch_size) < self.ranks:
            raise DataError(
                f"A batch must have an image for each of the {self.ranks} devices. Got a batch size of "
                f"{self.batch_size} and {self.images} training images. Use fewer devices (compute.devices)."
            )

    def __len__(self) -> int:
        whole, left = divmod(self.images, self.batch_size)
        alone = left >= min(2 * self.ranks, self.batch_size) and not self.drop_last
        return max(1, whole + (left > 0 and alone))

    def between(self, step: int) -> tuple[int, int]:
        """From which position of the epoch to which this step goes."""
        start = step * self.batch_size
        if step < len(self) - 1 or (self.drop_last and self.images >= self.batch_size):
            return start, start + self.batch_size
        return start, self.images


def _buffers(device: torch.device) -> Buffers | None:
    """Memory to be used again; a GPU's allocator does so by itself."""
    return Buffers() if device.type == "cpu" else None


def _refuse_empty(split: SplitReader) -> None:
    if not len(split):
        raise DataError(
            f"The {split.name} split has no images. Raise its share (split.val, split.test), or add data."
        )


def _refuse_fewer_than(ranks: int, split: SplitReader) -> None:
    if len(split) < ranks:
        raise DataError(
            f"The {split.name} split must have an image for each of the {ranks} devices. Got {len(split)}. "
            f"Use fewer devices (compute.devices), or add data."
        )


def _weights(split: SplitReader) -> NDArray[np.float64]:
    if split.weights is None:
        raise DataError(
            "training.sampler may be weighted only where the training images have weights that differ. Got "
            f"data without. Use shuffle{'' if split.labels.ndim == 2 else ' or balanced'}, or give the "
            "images weights: of table, the column 'weight'; of arrays, 'weight_key'; of image_folder, the "
            "column 'weight' of the groups file; of a source of your own, Row.weight."
        )
    return split.weights


def stratified_share(labels: NDArray[np.integer], share: float, seed: int) -> Places:
    """Where that share of the images of each class stands, and of each class at least one image."""
    if share == 1:
        return np.arange(len(labels))
    chance = np.random.Generator(np.random.Philox(seed))
    if labels.ndim == 2:
        return _share_of_each_set(labels, share, chance)
    chosen = [
        chance.permutation(places)[: max(1, round(share * len(places)))]
        for places in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(chosen))


def _share_of_each_set(labels: NDArray[np.integer], share: float, chance: np.random.Generator) -> Places:
    """Of images with several labels: taken at even distances, with like sets of labels side by side."""
    sets = np.unique(labels, axis=0, return_inverse=True)[1]
    in_order = np.lexsort((chance.permutation(len(labels)), sets))
    count = max(1, round(share * len(labels)))
    chosen = in_order[np.arange(count) * len(labels) // count]
    missed = np.flatnonzero(labels.any(axis=0) & ~labels[chosen].any(axis=0))
    first_of_missed = in_order[labels[in_order][:, missed].argmax(axis=0)]
    return np.unique(np.concatenate((chosen, first_of_missed)))
