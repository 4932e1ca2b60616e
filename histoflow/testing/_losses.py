"""Losses: one finite figure per image, and probabilities that follow the same outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from histoflow.components import ONE_LABEL, DataInfo, Loss
from histoflow.testing._common import calling, complaints, example_data, example_labels, expect


def check(loss: Loss[Any], params: Any) -> None:
    refused = []
    for task in sorted(loss.tasks):
        data = example_data(task)
        found = complaints(loss, params, data)
        refused.extend(found)
        if not found:
            _check_on(loss, params, data)
    expect(len(refused) < len(loss.tasks), loss, f"its check refuses every example: {refused}.")


def _check_on(loss: Loss[Any], params: Any, data: DataInfo) -> None:
    with calling(loss, "build"):
        module = loss.build(params, data)
    expect(isinstance(module, nn.Module), loss, f"build must return an nn.Module. Got {module!r}.")
    _check_buffers(loss, module)
    with calling(loss, "outputs"):
        width = loss.outputs(params, data)
    expect(isinstance(width, int) and width >= 1, loss, f"outputs must be 1 or more. Got {width!r}.")
    labels = torch.from_numpy(example_labels(data.task, len(data.classes), 12))
    if data.task == "multilabel":
        labels = labels.to(torch.uint8)
    chance = torch.Generator().manual_seed(0)
    for size in (1.0, 100.0):  # 100: as sure of itself as a network can be
        outputs = size * torch.randn(12, width, generator=chance)
        _check_losses(loss, module, outputs, labels)
        _check_probabilities(loss, params, outputs, data)
    _check_link(loss, params, module, torch.zeros(12, width), labels)


def _check_buffers(loss: Loss[Any], module: nn.Module) -> None:
    for part in module.modules():
        loose = [name for name, value in vars(part).items() if isinstance(value, Tensor)]
        expect(
            not loose,
            loss,
            f"holds tensors that do not move to the device with it: {', '.join(loose)}. Use register_buffer.",
        )


def _check_losses(loss: Loss[Any], module: nn.Module, outputs: Tensor, labels: Tensor) -> None:
    leaf = outputs.clone().requires_grad_()
    with calling(loss, "computing losses"):
        losses = module(leaf, labels)
        backwards, single = module(outputs.flip(0), labels.flip(0)), module(outputs[:1], labels[:1])
    expect(
        losses.shape == (len(labels),),
        loss,
        f"must give one loss per image, {len(labels)} in all. Got a tensor of shape {tuple(losses.shape)}.",
    )
    expect(bool(losses.isfinite().all()), loss, "gives losses that are not finite.")
    alike = torch.allclose(backwards.flip(0), losses) and torch.allclose(single, losses[:1])
    expect(alike, loss, "the loss of an image depends on the others of its batch.")
    with calling(loss, "differentiating losses"):
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    expect(bool(gradient.isfinite().all()), loss, "gives gradients that are not finite.")


def _check_probabilities(loss: Loss[Any], params: Any, outputs: Tensor, data: DataInfo) -> None:
    classes = len(data.classes)
    with calling(loss, "probabilities"):
        probabilities = loss.probabilities(params, outputs)
    expect(
        probabilities.shape == (len(outputs), classes),
        loss,
        f"probabilities must be {len(outputs)}×{classes}. Got {tuple(probabilities.shape)}.",
    )
    if data.task not in ONE_LABEL:
        expect(
            bool(((probabilities >= 0) & (probabilities <= 1)).all()),
            loss,
            "probabilities must be from 0 to 1.",
        )
        return
    sound = (probabilities >= 0).all() and torch.allclose(probabilities.sum(dim=1), torch.ones(len(outputs)))
    expect(bool(sound), loss, "probabilities must be 0 or more, and each row must sum to one.")


def _check_link(loss: Loss[Any], params: Any, module: nn.Module, outputs: Tensor, labels: Tensor) -> None:
    """Outputs that make the loss small must make the labels likely."""
    outputs.requires_grad_()
    for _ in range(40):
        (gradient,) = torch.autograd.grad(module(outputs, labels).sum(), outputs)
        outputs.data -= 0.2 * gradient / gradient.abs().max().clamp_min(1e-9)
    probabilities = loss.probabilities(params, outputs.detach())
    told = probabilities.argmax(dim=1) if labels.ndim == 1 else probabilities > 0.5
    expect(
        bool((told == labels).all()),
        loss,
        "outputs that lower the loss do not raise the probability of the label.",
    )
