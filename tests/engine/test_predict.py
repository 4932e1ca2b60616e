"""Prediction in a shorter type gives float32 all the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from histoflow.engine.predict import predict


class Asked(nn.Module):
    """Keeps the type in which it computed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)
        self.computed_in: torch.dtype | None = None

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.layer(images)
        self.computed_in = outputs.dtype
        return outputs


def test_autocast_computes_in_the_type_asked_for_and_returns_float32() -> None:
    network, images = Asked(), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    exact = predict(network, [(images, torch.zeros(3))]).outputs
    assert network.computed_in == torch.float32
    short = predict(network, [(images, torch.zeros(3))], torch.bfloat16).outputs
    assert network.computed_in == torch.bfloat16
    assert short.dtype == torch.float32
    assert torch.allclose(short, exact, atol=0.05)
    assert not torch.equal(short, exact)
