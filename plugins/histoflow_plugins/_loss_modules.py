"""The losses that torch has not, as modules; each returns one loss per image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Weighted(nn.Module):
    """Holds the class weights as a buffer, so that they move to the device with the module."""

    weights: Tensor | None

    def __init__(self, weights: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def weigh(self, losses: Tensor, labels: Tensor) -> Tensor:
        return losses if self.weights is None else losses * self.weights[labels]


class BinaryCrossEntropy(_Weighted):
    """Of one output, the logit of the second class."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        logits = outputs.squeeze(1)
        targets = labels.to(logits.dtype)
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return self.weigh(losses, labels)


class ManyBinaryCrossEntropies(_Weighted):
    """Of one output per class, the logit that the image shows it; the mean over the classes.

    An image that shows a class counts as its weight says, one that does not counts once.
    """

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = functional.binary_cross_entropy_with_logits(
            outputs, labels.to(outputs.dtype), pos_weight=self.weights, reduction="none"
        )
        return losses.mean(dim=1)


class Focal(_Weighted):
    """Cross-entropy times (1 - p)^gamma, where p is the label's probability."""

    def __init__(self, gamma: float, weights: Tensor | None) -> None:
        super().__init__(weights)
        self.gamma = gamma

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = functional.cross_entropy(outputs, labels, reduction="none")
        # At 1 - p = 0 a power below one has an infinite slope, which times zero is not a number.
        missing = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
        return self.weigh(losses * missing**self.gamma, labels)
