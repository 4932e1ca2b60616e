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
def predict(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], autocast: torch.dtype | None = None
) -> Outputs:
    """Run the model in evaluation mode; it is left in the mode it was in.

    With ``autocast`` it computes in that type where that is safe; the outputs are float32 all the same.
    """
    was_training = model.training
    model.eval()
    try:
        # What the device has computed stays there until the end: to fetch it is to wait for it.
        pairs = [(outputs_of(model, images, autocast), labels) for images, labels in batches]
    finally:
        model.train(was_training)
    outputs, labels = zip(*pairs, strict=True)
    return Outputs(torch.cat(outputs).cpu(), torch.cat(labels).cpu())


def outputs_of(model: nn.Module, images: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """The raw outputs of one batch, as float32."""
    with torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        outputs: Tensor = model(images)
    return outputs.float()
