"""Architectures: they train, evaluate, and survive being saved, at the smallest size they claim to take."""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from histoflow.components import Architecture, DataInfo
from histoflow.testing._common import calling, complaints, example_data, expect

SEED = 0


def check(architecture: Architecture[Any], params: Any) -> None:
    with calling(architecture, "smallest_side"):
        side = architecture.smallest_side(params)
    expect(
        isinstance(side, int) and side >= 1, architecture, f"min_size must be 1 or more pixels. Got {side!r}."
    )
    colour, grey = example_data("multiclass", 3, side), example_data("binary", 1, side)
    refused = {data.channels: complaints(architecture, params, data) for data in (colour, grey)}
    expect(not all(refused.values()), architecture, f"its check refuses every example: {refused}.")
    with torch.random.fork_rng():
        if not refused[1]:
            _check_training(architecture, _build(architecture, params, grey, 1), _images(grey), outputs=1)
        if not refused[3]:
            _check_whole_life(architecture, params, colour, outputs=5)


def _check_whole_life(architecture: Architecture[Any], params: Any, data: DataInfo, outputs: int) -> None:
    """Train, evaluate, save, restore, and train on."""
    model = _build(architecture, params, data, outputs)
    twin = _build(architecture, params, data, outputs)
    _check_same_start(architecture, model, twin)
    _check_named_layer(architecture, params, model)
    images = _images(data)
    _check_training(architecture, model, images, outputs)
    evaluated = _check_evaluation(architecture, model, images)
    _check_saving(architecture, model, twin, images, evaluated)
    with calling(architecture, "training after an evaluation"):
        model.train()(images)


def _build(architecture: Architecture[Any], params: Any, data: DataInfo, outputs: int) -> nn.Module:
    torch.manual_seed(SEED)
    with calling(architecture, f"build with {data.channels} channels and {outputs} outputs"):
        model = architecture.build(params, data, outputs)
    expect(isinstance(model, nn.Module), architecture, f"build must return an nn.Module. Got {model!r}.")
    return model


def _check_named_layer(architecture: Architecture[Any], params: Any, model: nn.Module) -> None:
    with calling(architecture, "spatial_layer"):
        named = architecture.named_layer(params)
    expect(
        named is None or named in dict(model.named_modules()),
        architecture,
        f"its spatial_layer must be the name of a module of the network, as in named_modules. Got {named!r}.",
    )


def _check_same_start(architecture: Architecture[Any], model: nn.Module, twin: nn.Module) -> None:
    state, other = model.state_dict(), twin.state_dict()
    expect(
        list(state) == list(other) and all(torch.equal(state[name], other[name]) for name in state),
        architecture,
        "its first weights differ between two builds with the same torch.manual_seed.",
    )


def _check_training(architecture: Architecture[Any], model: nn.Module, images: Tensor, outputs: int) -> None:
    with calling(architecture, f"training on {_describe(images)}"):
        result = model.train()(images)
        expect(
            isinstance(result, Tensor) and result.shape == (len(images), outputs),
            architecture,
            f"must give {len(images)}×{outputs} outputs for {_describe(images)}. "
            f"Got {tuple(getattr(result, 'shape', ())) or type(result).__name__}.",
        )
        expect(bool(result.isfinite().all()), architecture, "gives outputs that are not finite.")
        (result * torch.randn_like(result)).sum().backward()
    _check_gradients(architecture, model)


def _check_gradients(architecture: Architecture[Any], model: nn.Module) -> None:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    expect(bool(found), architecture, "no parameter gets a gradient, so nothing can be learned.")
    broken = [name for name, gradient in found.items() if not gradient.isfinite().all()]
    expect(not broken, architecture, f"gradients are not finite: {', '.join(broken)}.")


def _check_evaluation(architecture: Architecture[Any], model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode(), calling(architecture, "evaluating"):
        model.eval()
        together: Tensor = model(images)
        again = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    expect(torch.equal(together, again), architecture, "in eval mode, gives other outputs the second time.")
    expect(
        torch.allclose(together, alone, rtol=1e-3, atol=1e-4),
        architecture,
        "in eval mode, the outputs of an image depend on the others of its batch.",
    )
    return together


def _check_saving(
    architecture: Architecture[Any], model: nn.Module, twin: nn.Module, images: Tensor, expected: Tensor
) -> None:
    with calling(architecture, "saving its state_dict as safetensors"):
        saved = save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})
    with torch.inference_mode(), calling(architecture, "loading its saved weights into a new build"):
        twin.load_state_dict(load(saved))
        restored: Tensor = twin.eval()(images)
    expect(
        torch.allclose(restored, expected, rtol=1e-4, atol=1e-5),
        architecture,
        "gives other outputs when its weights are loaded into a new build: its state_dict lacks something.",
    )


def _images(data: DataInfo) -> Tensor:
    return torch.rand(2, data.channels, *data.size)


def _describe(images: Tensor) -> str:
    count, channels, height, width = images.shape
    return f"{count} images of {height}×{width} with {channels} channels"
