"""From the pixels of images to probabilities: a network made ready for inference, and all that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import progress
from histoflow.data.pixels import Pixels
from histoflow.engine import inference
from histoflow.engine.inference import Tta
from histoflow.engine.predict import outputs_of
from histoflow.errors import DeviceMemoryError, UserError

if TYPE_CHECKING:
    from histoflow.workshop import Workshop

_CPU_BATCH, _CPU_BATCH_BYTES = 256, 2**24
_GPU_BATCH, _GPU_BATCH_BYTES = 4096, 2**28
"""Bytes of a batch's pixels as floats; its features take many times as much."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What images a network takes, what its outputs mean, and how it is computed."""

    channels: int
    size: tuple[int, int]
    """Height and width."""
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    link: Callable[[Tensor], NDArray[np.float64]]
    """Raw outputs to images × classes."""
    device: torch.device
    dtype: torch.dtype | None = None
    """What autocast computes in; None where nothing is cast."""
    channels_last: bool = True

    @property
    def batch_size(self) -> int:
        """How many images at once suit the device."""
        floats = 4 * self.channels * math.prod(self.size)
        on_cpu = self.device.type == "cpu"
        most, room = (_CPU_BATCH, _CPU_BATCH_BYTES) if on_cpu else (_GPU_BATCH, _GPU_BATCH_BYTES)
        return max(1, min(most, room // floats))


def terms_of(workshop: Workshop) -> Terms:
    """Those of a run's network, which computes as training did."""
    manifest, plan = workshop.manifest, workshop.plan
    return Terms(
        channels=manifest.channels,
        size=manifest.size,
        classes=len(manifest.classes),
        mean=manifest.mean,
        std=manifest.std,
        link=workshop.probabilities,
        device=workshop.device,
        dtype=plan.dtype,
        channels_last=plan.channels_last.value,
    )


def refuse_turning(tta: Tta, size: tuple[int, int]) -> None:
    height, width = size
    if tta == "dihedral" and height != width:
        raise UserError(
            f"tta may be dihedral only where images are square, for they are turned by right angles. "
            f"Got {width}×{height} pixels. Use flips or none."
        )


class Predictor:
    """The network, made ready for inference, from stored pixels to probabilities."""

    def __init__(self, terms: Terms, model: nn.Module, tta: Tta) -> None:
        self._terms = terms
        self._pixels = Pixels(terms.mean, terms.std, terms.device)
        self._views = inference.views(tta)
        self._network = inference.prepare(
            model,
            terms.device,
            (terms.channels, *terms.size),
            channels_last=terms.channels_last,
            blocked=None if terms.dtype is None else False,
        )
        self._parts = 1
        self.of_none = np.empty((0, terms.classes))

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Images × classes; a batch that is too large for the device goes through it in parts."""
        while True:
            parts = np.array_split(images, min(self._parts, len(images)))
            try:
                return np.concatenate([self._of(part) for part in parts])
            except torch.OutOfMemoryError as error:
                self._use_smaller_parts(len(images), error)

    def _use_smaller_parts(self, count: int, error: torch.OutOfMemoryError) -> None:
        if self._parts >= count:
            raise DeviceMemoryError(
                f"Not even one image fits into the memory of {self._terms.device}: {error}. "
                f"Free some, or predict on another device: --device cpu."
            ) from error
        self._parts *= 2
        progress.say(f"Memory is short: batches go through the network in {self._parts} parts.")

    @torch.inference_mode()
    def _of(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        stored = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._terms.device)
        normalised = self._pixels.normalised_bytes(stored)
        seen = [self._linked(view(normalised)) for view in self._views]
        mean: NDArray[np.float64] = np.mean(seen, axis=0)
        return mean

    def _linked(self, images: Tensor) -> NDArray[np.float64]:
        return self._terms.link(outputs_of(self._network, images, self._terms.dtype).cpu())
