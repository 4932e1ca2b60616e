"""ImageNet weights of torchvision's networks, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

from servers import Server, gives

Served = Callable[..., nn.Module]
"""Takes the name of a network of torchvision's."""


def serves(server: Server, monkeypatch: pytest.MonkeyPatch) -> Served:
    """Serves the weights of a network of torchvision's, and returns that network."""

    def serve(name: str, old_fashioned: bool = False) -> nn.Module:
        model = get_model(name).eval()
        file = io.BytesIO()
        state = _as_in_2017(model) if old_fashioned else model.state_dict()
        torch.save(state, file, _use_new_zipfile_serialization=not old_fashioned)
        digest = hashlib.sha256(file.getvalue()).hexdigest()
        redirect(monkeypatch, name, server.at(f"{name}-{digest[:8]}.pth", gives(file.getvalue())))
        return model

    return serve


def redirect(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setattr(get_model_weights(name)["IMAGENET1K_V1"].value, "url", url)


def _as_in_2017(model: nn.Module) -> dict[str, nn.Parameter]:
    """The names and types in torchvision's oldest files, which had no count of batches."""
    return {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): nn.Parameter(tensor)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
