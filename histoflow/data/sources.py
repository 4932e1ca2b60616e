"""Where the packed images lie while they are worked on, and how those of a batch come to the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from histoflow.data.ahead import drawn_ahead
from histoflow.data.pixels import Buffers
from histoflow.data.store import SplitReader
from histoflow.engine.plan import Residence

_AHEAD = 2
"""Batches that wait on the device while a step is under way."""


class Stored(NamedTuple):
    """Images of a batch as they were packed, on the device, with their labels."""

    images: Tensor
    """uint8, N×C×H×W, in channels-last memory."""
    labels: Tensor


class Source(Protocol):
    def batches(self, places: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        """The images at these places, batch by batch; a batch is valid until the next is asked for."""
        ...


def source_of(split: SplitReader, device: torch.device, residence: Residence) -> Source:
    if residence == "device":
        return Resident(split, device)
    return Copied(split, device) if device.type == "cuda" else Mapped(split)


class Resident:
    """The whole split in the device's memory, where it is brought when first needed."""

    def __init__(self, split: SplitReader, device: torch.device) -> None:
        self._split, self._device = split, device

    @cached_property
    def _whole(self) -> Stored:
        images = torch.empty((len(self._split), *self._split.shape), dtype=torch.uint8, device=self._device)
        begin = 0
        for shard in self._split.shards():
            images[begin : begin + len(shard)] = torch.from_numpy(np.array(shard)).to(self._device)
            begin += len(shard)
        return Stored(images, torch.from_numpy(np.array(self._split.labels)).to(self._device))

    def bring(self) -> None:
        """Do so now."""
        assert len(self._whole.labels) == len(self._split)

    def take(self, places: Tensor) -> Stored:
        """The images at these places, by the device alone."""
        images, labels = self._whole
        return Stored(images.index_select(0, places).permute(0, 3, 1, 2), labels.index_select(0, places))

    def batches(self, places: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        for some in places:
            yield self.take(_sent(torch.from_numpy(some), self._device))


class Mapped:
    """Images read by memory map, for work on the CPU."""

    def __init__(self, split: SplitReader) -> None:
        self._split = split

    def batches(self, places: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        buffers = Buffers()
        for some in places:
            images = buffers.of((len(some), *self._split.shape), torch.uint8)
            yield _gathered(self._split, some, images)


class Copied:
    """Images read by memory map; a thread copies them to a GPU ahead of the steps, on a stream of its own."""

    def __init__(self, split: SplitReader, device: torch.device) -> None:
        self._split, self._device = split, device

    def batches(self, places: Iterable[NDArray[np.int64]]) -> Iterator[Stored]:
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        for stored, copied in drawn_ahead(self._copies(iter(places), stream), _AHEAD):
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            for tensor in stored:
                tensor.record_stream(current)  # its memory is not given away before this stream is done
            yield stored

    def _copies(
        self, places: Iterator[NDArray[np.int64]], stream: torch.cuda.Stream
    ) -> Iterator[tuple[Stored, torch.cuda.Event]]:
        for some in places:
            # Pinned memory goes back to torch's cache, which waits for the copies out of it.
            images = torch.empty((len(some), *self._split.shape), dtype=torch.uint8, pin_memory=True)
            gathered = _gathered(self._split, some, images)
            with torch.cuda.stream(stream):
                stored = Stored(*(_sent(tensor, self._device) for tensor in gathered))
                copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                copied.record(stream)
            yield stored, copied


def _gathered(split: SplitReader, places: NDArray[np.int64], images: Tensor) -> Stored:
    split.gather(places, out=images.numpy())
    return Stored(images.permute(0, 3, 1, 2), torch.from_numpy(split.labels[places]))


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; a GPU is not waited for."""
    if device.type != "cuda":
        return tensor
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)
