"""torchvision's networks in two parts: the base, which may be pretrained and frozen, and a new head."""

from __future__ import annotations

import re
from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, vgg  # type: ignore[import-untyped]

from histoflow import DataError

M = TypeVar("M", bound=nn.Module)

_HEADS = ("avgpool", "fc", "classifier")

# Files of 2017 name the parts of a dense layer 'norm.1', a name that modules may no longer have.
_OLD_NAME = re.compile(r"(norm|conv)\.([12])\.")


class Frozen(nn.Sequential):
    """Layers that training leaves as they are, the running statistics of their batch norms included."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__(OrderedDict(layers.named_children()))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Frozen:  # noqa: ARG002 - a frozen base never trains
        super().train(False)
        return self


def network(base: nn.Sequential, head: nn.Module, freeze: bool) -> nn.Module:
    return nn.Sequential(OrderedDict(base=Frozen(base) if freeze else base, head=head))


def base_of(name: str, channels: int, *, pretrained: bool, small_stem: bool = False) -> nn.Sequential:
    """The layers of torchvision's network before its pooling and head, for so many channels."""
    base = _vgg16(name) if name.startswith("vgg16") else _without_head(get_model(name))
    if pretrained:
        load_imagenet(base, name)
    if small_stem:
        _shrink_stem(base, channels)
    elif channels != 3:
        _change_channels(base, channels, keep_filters=pretrained)
    return base


def _without_head(model: nn.Module) -> nn.Sequential:
    layers = OrderedDict(model.named_children())
    return nn.Sequential(OrderedDict((key, layer) for key, layer in layers.items() if key not in _HEADS))


def _vgg16(name: str) -> nn.Sequential:
    """Started as torchvision starts it, but without the second and the 500 MB that its head would cost."""
    layers = vgg.make_layers(vgg.cfgs["D"], batch_norm=name.endswith("_bn"))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            _start(layer)
    return nn.Sequential(OrderedDict(features=layers))


# ── The stem ────────────────────────────────────────────────────────────────────────────────────


def _shrink_stem(base: nn.Sequential, channels: int) -> None:
    """Let the first layers keep the size of the image, as ResNets for CIFAR do."""
    place, first = _first(base, nn.Conv2d)
    base.set_submodule(place, _fresh(first, channels, kernel_size=3, stride=1, padding=1))
    base.set_submodule(_first(base, nn.MaxPool2d)[0], nn.Identity())


def _change_channels(base: nn.Sequential, channels: int, keep_filters: bool) -> None:
    place, first = _first(base, nn.Conv2d)
    convolution = _fresh(
        first, channels, kernel_size=first.kernel_size, stride=first.stride, padding=first.padding
    )
    if keep_filters:
        convolution.load_state_dict({**first.state_dict(), "weight": _spread(first.weight, channels)})
    base.set_submodule(place, convolution)


def _first(base: nn.Sequential, kind: type[M]) -> tuple[str, M]:
    return next((name, module) for name, module in base.named_modules() if isinstance(module, kind))


def _fresh(first: nn.Conv2d, channels: int, **shape: Any) -> nn.Conv2d:
    """A convolution in the place of the first, started as torchvision starts its networks."""
    return _start(nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **shape))


def _start(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _spread(filters: Tensor, channels: int) -> Tensor:
    """Each channel gets the mean of the three colours' filters, so scaled that their sum stays.

    One channel then gives what a grey image gives in red, green and blue. Nothing is known of other
    channels that would tell which of the colours they resemble.
    """
    mean = filters.detach().mean(dim=1, keepdim=True)
    return (mean * (filters.shape[1] / channels)).repeat(1, channels, 1, 1)


# ── Heads ───────────────────────────────────────────────────────────────────────────────────────


def linear_head(features: int, outputs: int, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, outputs)
    )


def hidden_head(features: int, outputs: int, dropout: float) -> nn.Module:
    """One hidden layer on pooled features; VGG's own head has 120 million weights and wants 224 pixels."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, features),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(features, outputs),
    )


def last_relu() -> nn.Module:
    return nn.ReLU(inplace=True)


# ── ImageNet weights ────────────────────────────────────────────────────────────────────────────


def load_imagenet(base: nn.Module, name: str) -> None:
    """Put in torchvision's weights, from its cache or its server; the file is read without unpickling."""
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state = weights.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
        base.load_state_dict(
            {
                _OLD_NAME.sub(r"\1\2.", key): value
                for key, value in state.items()
                if key.split(".")[0] not in _HEADS
            }
        )
    except (OSError, HTTPException, RuntimeError, UnpicklingError, EOFError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer as well, and holds its connection open
        raise DataError(_explain(name, weights.url, error)) from error


def _explain(name: str, url: str, error: Exception) -> str:
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    if cached.exists():
        return (
            f"The file {cached} is damaged, or does not hold the ImageNet weights of {name} "
            f"({type(error).__name__}). Delete it and run again, or set weights: none."
        )
    return (
        f"The ImageNet weights of {name} cannot be downloaded from {url}: {error}. Check the network and run "
        f"again, or bring that file yourself and place it at {cached}, or set weights: none."
    )
