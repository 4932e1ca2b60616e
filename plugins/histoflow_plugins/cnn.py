"""``cnn`` and ``cnn5``: small convolutional networks, trained from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from histoflow import Architecture, DataInfo, Params, hookimpl, tunable

if TYPE_CHECKING:
    from torch import nn

CNN5_WIDTHS = (32, 64, 128, 256, 512)

Width = Annotated[int, Field(ge=1, le=4096)]


class CnnParams(Params):
    """How deep and how wide."""

    widths: tuple[Width, ...] = Field((32, 64, 128), min_length=1, max_length=10)
    """Channels of each block; between two blocks the image is halved."""
    convolutions: int = Field(2, ge=1, le=8)
    """3×3 convolutions per block, each with batch norm and ReLU."""
    dropout: float = Field(0.2, ge=0, lt=1, json_schema_extra=tunable(low=0.0, high=0.6))
    """Share of the features dropped before the last layer."""


class Cnn5Params(Params):
    """The network is fixed but for its dropout."""

    dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra=tunable(low=0.0, high=0.6))
    """Share of the features dropped before the last layer."""


def build_cnn(params: CnnParams, data: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    channels = data.channels
    for width in params.widths:
        if layers:
            layers.append(nn.MaxPool2d(2))
        layers.extend(_convolutions(channels, width, params.convolutions))
        channels = width
    return nn.Sequential(*layers, *_head(channels, outputs, params.dropout))


def build_cnn5(params: Cnn5Params, data: DataInfo, outputs: int) -> nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    for channels, width in zip((data.channels, *CNN5_WIDTHS), CNN5_WIDTHS, strict=False):
        layers.extend([*_convolutions(channels, width, 1), nn.MaxPool2d(2)])
    return nn.Sequential(*layers, *_head(CNN5_WIDTHS[-1], outputs, params.dropout))


def _convolutions(channels: int, width: int, count: int) -> list[nn.Module]:
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(count):
        # The batch norm's shift makes a bias of the convolution superfluous.
        convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
        layers.extend([convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
        channels = width
    return layers


def _head(features: int, outputs: int, dropout: float) -> list[nn.Module]:
    from torch import nn

    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, outputs)]


def _cnn_min_size(params: CnnParams) -> int:
    halvings = len(params.widths) - 1
    return int(2**halvings)


CNN = Architecture(
    name="cnn",
    summary="A small convolutional network with blocks of your choice",
    params=CnnParams,
    build=build_cnn,
    min_size=_cnn_min_size,
)

CNN5 = Architecture(
    name="cnn5",
    summary="Five convolutions, as in the notebooks of Kaggle's Histopathologic Cancer Detection",
    params=Cnn5Params,
    build=build_cnn5,
    min_size=2 ** len(CNN5_WIDTHS),
)


@hookimpl
def histoflow_architectures() -> Iterable[Architecture[Any]]:
    return (CNN, CNN5)
