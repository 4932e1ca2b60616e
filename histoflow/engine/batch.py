"""What a step of training works on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images and labels on the model's device; and, where images were mixed, with what."""

    images: Tensor
    labels: Tensor
    partners: Tensor | None = None
    """The labels of the images that were mixed in."""
    shares: Tensor | None = None
    """How much of each image is its own, from 0 to 1."""
    of: int | None = None
    """How many images the step has in all processes together; None where there are no others."""
