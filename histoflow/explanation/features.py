"""The features that a network makes of images: what goes into its last linear layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from histoflow.engine.predict import outputs_of
from histoflow.explanation.gradcam import SpatialLayer, spatial_layer


@dataclass(frozen=True)
class FeatureLayer:
    """Where a network's features are taken."""

    name: str
    """Of a linear layer, whose input they are; or of the spatial layer."""
    spatial: SpatialLayer | None = None
    """Where there is no linear layer at the end: its output, of which the mean over all places is taken."""


def feature_layer(model: nn.Module, images: Tensor, named: str | None = None) -> FeatureLayer:
    """Found by running two or more images through the model; ``named`` is its plugin's spatial layer."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    with torch.no_grad(), _inputs_of(linear) as inputs:
        model(images)
    fed = [name for name, features in inputs.items() if features.ndim == 2 and len(features) == len(images)]
    if fed:
        return FeatureLayer(fed[-1])
    spatial = spatial_layer(model, images, named)
    return FeatureLayer(spatial.name, spatial)


def features_of(
    model: nn.Module, layer: FeatureLayer, images: Tensor, autocast: torch.dtype | None = None
) -> Tensor:
    """Images × features, as float32 and on the CPU."""
    module = model.get_submodule(layer.name)
    if layer.spatial is None:
        with torch.no_grad(), _inputs_of({layer.name: module}) as inputs:
            outputs_of(model, images, autocast)
        return inputs[layer.name].float().cpu()
    kept: list[Tensor] = []
    hook = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        with torch.no_grad():
            outputs_of(model, images, autocast)
    finally:
        hook.remove()
    return layer.spatial.places(kept[-1]).mean(dim=(2, 3)).float().cpu()


@contextmanager
def _inputs_of(modules: dict[str, nn.Module] | dict[str, nn.Linear]) -> Iterator[dict[str, Tensor]]:
    """What each of the modules was given when it was last called, in the order of these calls."""
    inputs: dict[str, Tensor] = {}

    def note(name: str, given: tuple[Tensor, ...]) -> None:
        inputs.pop(name, None)
        inputs[name] = given[0].detach()

    hooks = [
        module.register_forward_pre_hook(lambda _module, given, name=name: note(name, given))
        for name, module in modules.items()
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
