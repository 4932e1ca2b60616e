"""``resnet``, ``vgg16`` and ``densenet121`` from torchvision, from scratch or with ImageNet weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field

from histoflow import Architecture, DataInfo, Params, hookimpl, tunable

if TYPE_CHECKING:
    from torch import nn


class PretrainableParams(Params):
    """What the three networks share."""

    weights: Literal["none", "imagenet"] = "none"
    """Start at random, or from ImageNet (IMAGENET1K_V1, downloaded once into torchvision's cache)."""
    freeze: bool = False
    """Train only the head; the ImageNet layers and their batch norm statistics stay as they are."""
    dropout: float = Field(0.0, ge=0, lt=1, json_schema_extra=tunable(low=0.0, high=0.6))
    """Share of the features dropped before the last layer."""

    @property
    def pretrained(self) -> bool:
        return self.weights == "imagenet"


N = TypeVar("N", bound=PretrainableParams)
Builder = Callable[[N, DataInfo, int], "nn.Module"]


class StemParams(PretrainableParams):
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: the first layers quarter the image. small: a new 3×3 convolution keeps its size, for images
    of up to about 64 pixels."""


class ResnetParams(StemParams):
    """Which ResNet, and how it starts."""

    depth: Literal[18, 34, 50] = 18
    """Layers; 18 and 34 have basic blocks, 50 has bottlenecks."""


class Vgg16Params(PretrainableParams):
    """Which VGG16, and how it starts."""

    batch_norm: bool = True
    """Batch norm after each convolution; without it training from scratch is hard."""
    dropout: float = Field(0.5, ge=0, lt=1, json_schema_extra=tunable(low=0.0, high=0.6))
    """Share of the features dropped before the last layer."""


class Densenet121Params(StemParams):
    """How DenseNet-121 starts."""


# ── Builders ────────────────────────────────────────────────────────────────────────────────────


def build_resnet(params: ResnetParams, data: DataInfo, outputs: int) -> nn.Module:
    from histoflow_plugins import _torchvision_modules as modules

    base = modules.base_of(
        f"resnet{params.depth}",
        data.channels,
        pretrained=params.pretrained,
        small_stem=params.stem == "small",
    )
    features = 2048 if params.depth == 50 else 512
    return modules.network(base, modules.linear_head(features, outputs, params.dropout), params.freeze)


def build_vgg16(params: Vgg16Params, data: DataInfo, outputs: int) -> nn.Module:
    from histoflow_plugins import _torchvision_modules as modules

    name = "vgg16_bn" if params.batch_norm else "vgg16"
    base = modules.base_of(name, data.channels, pretrained=params.pretrained)
    return modules.network(base, modules.hidden_head(512, outputs, params.dropout), params.freeze)


def build_densenet121(params: Densenet121Params, data: DataInfo, outputs: int) -> nn.Module:
    from histoflow_plugins import _torchvision_modules as modules

    base = modules.base_of(
        "densenet121", data.channels, pretrained=params.pretrained, small_stem=params.stem == "small"
    )
    base.append(modules.last_relu())  # torchvision applies it between the layers and the head
    return modules.network(base, modules.linear_head(1024, outputs, params.dropout), params.freeze)


def without_download(build: Builder[N]) -> Builder[N]:
    """The same builder, with random weights in place of ImageNet's."""
    return lambda params, data, outputs: build(params.model_copy(update={"weights": "none"}), data, outputs)


# ── Checks ──────────────────────────────────────────────────────────────────────────────────────


def frozen_layers_are_trained(params: PretrainableParams, data: DataInfo) -> Iterator[str]:
    """Complain where freezing would fix random weights for ever."""
    if params.freeze and params.weights == "none":
        yield (
            "freeze must be false where weights is none. Got true, which would fix random layers for ever. "
            "Set weights: imagenet, or freeze: false."
        )


def frozen_stem_is_trained(params: StemParams, data: DataInfo) -> Iterator[str]:
    yield from frozen_layers_are_trained(params, data)
    if params.freeze and params.stem == "small":
        yield (
            "freeze must be false where stem is small. Got true, which would fix the new first convolution "
            "at random. Set stem: imagenet (and resize small images), or freeze: false."
        )


# ResNet runs on a single pixel, but below these sides its last stage finds nothing to halve.
def _resnet_min_size(params: ResnetParams) -> int:
    return 5 if params.stem == "small" else 17


# Three transitions halve the image, rounding down; the ImageNet stem halves it twice before, rounding up.
def _densenet_min_size(params: Densenet121Params) -> int:
    return 8 if params.stem == "small" else 29


RESNET = Architecture(
    name="resnet",
    summary="ResNet-18, 34 or 50 (He et al. 2016)",
    params=ResnetParams,
    build=build_resnet,
    skeleton=without_download(build_resnet),
    min_size=_resnet_min_size,
    check=frozen_stem_is_trained,
)

VGG16 = Architecture(
    name="vgg16",
    summary="VGG16 (Simonyan & Zisserman 2015) with a compact head",
    params=Vgg16Params,
    build=build_vgg16,
    skeleton=without_download(build_vgg16),
    min_size=32,
    check=frozen_layers_are_trained,
)

DENSENET121 = Architecture(
    name="densenet121",
    summary="DenseNet-121 (Huang et al. 2017)",
    params=Densenet121Params,
    build=build_densenet121,
    skeleton=without_download(build_densenet121),
    min_size=_densenet_min_size,
    check=frozen_stem_is_trained,
)


@hookimpl
def histoflow_architectures() -> Iterable[Architecture[Any]]:
    return (RESNET, VGG16, DENSENET121)
