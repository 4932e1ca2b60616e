"""From stored uint8 images to the normalised floats that a network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate


class Buffers:
    """Memory that each batch writes over the one before; fetching it anew costs more than filling it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def of(self, shape: Sequence[int], dtype: torch.dtype, purpose: str = "") -> Tensor:
        """Memory of this shape; what was handed out for the same purpose before is no longer valid."""
        count = torch.Size(shape).numel()
        kept = self._kept.get((purpose, dtype))
        if kept is None or kept.numel() < count:
            kept = self._kept[purpose, dtype] = torch.empty(count, dtype=dtype)
        return kept[:count].view(torch.Size(shape))


class _Row:
    """A figure for each channel, repeated for each pixel of a row."""

    def __init__(self, figures: Tensor, device: torch.device) -> None:
        self._figures = figures.float().to(device)
        self._kept: dict[int, Tensor] = {}

    def of(self, width: int) -> Tensor:
        if self._figures.device.type != "cpu":
            return self._figures.repeat(
                width
            )  # memory handed out while a graph is recorded is not to be kept
        if width not in self._kept:
            self._kept[width] = self._figures.repeat(width)
        return self._kept[width]


class Pixels:
    """Scales the pixels of batches, N×C×H×W, on one device; what it returns lies channels-last in memory."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.device = device
        spread = torch.tensor(std, dtype=torch.float64)
        self._shift = _Row(-torch.tensor(mean, dtype=torch.float64) / spread, device)
        self._scale, self._byte_scale = _Row(1 / spread, device), _Row(1 / (255 * spread), device)

    def unit(self, images: Tensor, buffers: Buffers | None = None) -> Tensor:
        """uint8 → floats from 0 to 1."""
        return _outside(self._floats(images, buffers, "unit").mul_(1 / 255))

    def normalise(self, images: Tensor, buffers: Buffers | None = None) -> Tensor:
        """Floats from 0 to 1 → less the mean, by the standard deviation of each channel."""
        last = _inside(images).contiguous()
        return _outside(self._scaled(last, self._scale, self._new(last.shape, buffers, "normalised")))

    def normalised_bytes(self, images: Tensor, buffers: Buffers | None = None) -> Tensor:
        """uint8 → what ``unit`` and ``normalise`` come to, at half their cost."""
        floats = self._floats(images, buffers, "normalised")
        return _outside(self._scaled(floats, self._byte_scale, floats))

    def _scaled(self, images: Tensor, scale: _Row, out: Tensor) -> Tensor:
        """Each row of an image is one vector to the processor: many times faster than three channels are."""
        width, channels = images.shape[2:]
        rows = (-1, width * channels)
        torch.addcmul(self._shift.of(width), images.view(rows), scale.of(width), out=out.view(rows))
        return out

    def _floats(self, images: Tensor, buffers: Buffers | None, purpose: str) -> Tensor:
        last = _inside(images)
        return self._new(last.shape, buffers, purpose).copy_(last)

    def _new(self, shape: torch.Size, buffers: Buffers | None, purpose: str) -> Tensor:
        if buffers is None:
            return torch.empty(shape, device=self.device)
        return buffers.of(shape, torch.float32, purpose)


def resized(images: Tensor, side: int | None) -> Tensor:
    """uint8 images whose shorter side is this long; as they are where it is none, or would be longer."""
    height, width = images.shape[2:]
    if side is None or side >= min(height, width):
        return images
    size = [round(length * side / min(height, width)) for length in (height, width)]
    if images.device.type == "cpu":
        return interpolate(images, size, mode="bilinear", antialias=True)
    # Other devices resize floats alone.
    floats = interpolate(images.float(), size, mode="bilinear", antialias=True)
    return floats.round_().clamp_(0, 255).to(torch.uint8)


def _inside(images: Tensor) -> Tensor:
    """N×H×W×C."""
    return images.permute(0, 2, 3, 1)


def _outside(images: Tensor) -> Tensor:
    """N×C×H×W, the memory as it was."""
    return images.permute(0, 3, 1, 2)
