"""Batches for the tests of augmentations, and what becomes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from histoflow import Transform


def images(count: int = 64, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(count, channels, height, width, generator=Generator().manual_seed(0))


def muted() -> Tensor:
    """Images that stay within 0 to 1 whatever a small change does to them."""
    return 0.4 + 0.2 * images()


def augmented(transform: Transform[Any], params: Any, batch: Tensor, seed: int = 0) -> Any:
    augment: Any = transform.build(params)
    return augment(batch, Generator(device=batch.device).manual_seed(seed))
