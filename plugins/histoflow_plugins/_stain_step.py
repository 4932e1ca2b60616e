"""A normalisation of batches as preprocessing of one image after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from histoflow.components import ImageArray


@dataclass(frozen=True)
class Step:
    """Takes one H×W×C uint8 array; gives back that very array where it cannot be normalised.

    ``batched`` does the same to N×3×H×W floats from 0 to 1, on the device on which they lie, and tells with
    N Booleans which images it could normalise.
    """

    batched: Callable[[Tensor], tuple[Tensor, Tensor]]

    def __call__(self, image: ImageArray) -> ImageArray:
        if image.shape[2] != 3 or image.min() == image.max():
            return image
        with torch.no_grad():
            changed, done = self.batched(floats_of(image).unsqueeze(0))
            return _bytes_of(changed[0]) if bool(done) else image


def floats_of(image: ImageArray) -> Tensor:
    """3×H×W from 0 to 1."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32, order="C")).div_(255)


def _bytes_of(image: Tensor) -> ImageArray:
    levels = (255 * image).round_().to(torch.uint8)
    return np.ascontiguousarray(levels.numpy().transpose(1, 2, 0))
