"""Inference: raw outputs of a model over batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Outputs(NamedTuple):
    """Raw outputs and labels of all images, on the CPU, in the order of the batches."""

    outputs: Tensor
    labels: Tensor


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Outputs:
    """Run the model in evaluation mode; it is left in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        pairs = [(model(images).float(), labels) for images, labels in batches]
    finally:
        model.train(was_training)
    outputs, labels = zip(*pairs, strict=True)
    return Outputs(torch.cat(outputs).cpu(), torch.cat(labels).cpu())
