"""Batches from packed data: which images, in which order, changed in which way, as tensors.

The batch at (seed, epoch, step) and its augmentation follow from those three numbers alone, so a
resumed training sees what an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from histoflow.components import Sampler
from histoflow.data.store import SplitReader
from histoflow.seeds import Stream, derive

Augment = Callable[[Tensor, Generator], Tensor]


class Pixels:
    """From stored uint8 images to the normalised floats that a network sees."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, -1, 1, 1)

    def unit(self, images: NDArray[np.uint8]) -> Tensor:
        """N×C×H×W in 0..1; the memory stays channels-last, as it was stored."""
        return torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float().div_(255)

    def normalise(self, images: Tensor) -> Tensor:
        return (images - self._mean) / self._std


class TrainBatches:
    """The training split, in another order and with other augmentation in every epoch."""

    def __init__(
        self,
        split: SplitReader,
        pixels: Pixels,
        *,
        batch_size: int,
        seed: int,
        sampler: Sampler = "shuffle",
        share: float = 1.0,
        augment: Sequence[Augment] = (),
    ) -> None:
        self._split, self._pixels, self._augment = split, pixels, augment
        self._seed, self._sampler = seed, sampler
        self._chosen = stratified_share(split.labels, share, derive(seed, Stream.SHARE))
        self._labels = split.labels[self._chosen]
        self._bounds = _batch_bounds(len(self._chosen), batch_size)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @property
    def images(self) -> int:
        """Images in an epoch."""
        return len(self._chosen)

    def images_before(self, step: int) -> int:
        """Images in the steps of an epoch before this one."""
        return self._bounds[step]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order = sample_order(self._labels, self._sampler, derive(self._seed, Stream.ORDER, epoch))
        for step, (start, end) in enumerate(pairwise(self._bounds[first_step:]), start=first_step):
            indices = self._chosen[order[start:end]]
            labels = torch.from_numpy(self._split.labels[indices]).to(self._pixels.device)
            yield self._images(indices, epoch, step), labels

    def _images(self, indices: NDArray[np.int64], epoch: int, step: int) -> Tensor:
        images = self._pixels.unit(self._split.gather(indices))
        if self._augment:
            generator = Generator(device=images.device)
            generator.manual_seed(derive(self._seed, Stream.AUGMENT, epoch, step))
            for augment in self._augment:
                images = augment(images, generator)
        return self._pixels.normalise(images)


class EvalBatches:
    """A split in its stored order, without augmentation."""

    def __init__(self, split: SplitReader, pixels: Pixels, batch_size: int) -> None:
        self._split, self._pixels, self._batch_size = split, pixels, batch_size

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self._split), self._batch_size):
            indices = np.arange(start, min(start + self._batch_size, len(self._split)))
            images = self._pixels.normalise(self._pixels.unit(self._split.gather(indices)))
            yield images, torch.from_numpy(self._split.labels[indices]).to(self._pixels.device)


def _batch_bounds(images: int, batch_size: int) -> list[int]:
    """Where each batch begins, and the end. A single image left over joins the batch before it:

    batch norm cannot train on one image whose features are down to a single pixel.
    """
    bounds = [*range(0, images, batch_size), images]
    if batch_size > 1 and images % batch_size == 1 and len(bounds) > 2:
        del bounds[-2]
    return bounds


def stratified_share(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Where that share of the images of each class stands, and of each class at least one image."""
    if share == 1:
        return np.arange(len(labels))
    chance = np.random.Generator(np.random.Philox(seed))
    chosen = [
        chance.permutation(places)[: max(1, round(share * len(places)))]
        for places in (np.flatnonzero(labels == label) for label in np.unique(labels))
    ]
    return np.sort(np.concatenate(chosen))


def sample_order(labels: NDArray[np.int64], sampler: Sampler, seed: int) -> NDArray[np.int64]:
    """The order of one epoch: a permutation, or as many draws with every class equally likely."""
    chance = np.random.Generator(np.random.Philox(seed))
    if sampler == "shuffle":
        return chance.permutation(len(labels))
    counts = np.bincount(labels)
    weights = 1 / (np.count_nonzero(counts) * counts[labels])
    return chance.choice(len(labels), size=len(labels), p=weights)
