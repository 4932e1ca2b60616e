"""The memory that training will take, told without taking it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from histoflow import registry
from histoflow.components import Architecture, DataInfo
from histoflow.engine.footprint import Footprint, footprint_of

INFO = DataInfo(task="multiclass", classes=tuple("abcdefghi"), channels=3, size=(32, 32))


def built(name: str, **params: Any) -> nn.Module:
    architecture = registry.installed().get(Architecture, name)
    return architecture.build(architecture.params(**params), INFO, 9)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), fused=True)


def footprint(name: str, dtype: torch.dtype | None = None, copies: int = 1, **params: Any) -> Footprint:
    return footprint_of(lambda: built(name, **params), adam, (3, 32, 32), dtype, copies)


def really_kept(model: nn.Module, images: Tensor) -> int:
    """Bytes of all memory blocks that a real forward pass leaves for the backward pass."""
    weights = {tensor.data_ptr() for tensor in model.state_dict().values()}
    blocks: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        blocks[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = model(images)
        losses = nn.functional.cross_entropy(outputs, torch.zeros(len(images), dtype=torch.int64))
    losses.backward()
    return sum(block.untyped_storage().nbytes() for place, block in blocks.items() if place not in weights)


@pytest.mark.parametrize(
    ("name", "params", "images"), [("resnet", {"depth": 18}, 6), ("cnn", {"widths": [8, 16, 32]}, 32)]
)
def test_it_tells_what_a_real_forward_pass_leaves_for_the_backward_pass(
    name: str, params: dict[str, Any], images: int
) -> None:
    told = footprint(name, **params).kept(images)
    real = really_kept(built(name, **params).train(), torch.rand(images, 3, 32, 32))
    assert told == pytest.approx(real, rel=0.15)


def test_weights_gradients_and_the_optimizers_state_are_those_of_a_real_step() -> None:
    model = built("cnn", widths=[8, 16])
    optimizer = adam(model)
    model(torch.rand(4, 3, 32, 32)).sum().backward()
    optimizer.step()
    state = sum(tensor.nbytes for entry in optimizer.state.values() for tensor in entry.values())
    told = footprint("cnn", widths=[8, 16])
    assert told.weights == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert told.gradients == sum(parameter.nbytes for parameter in model.parameters())
    assert told.optimizer == state
    assert told.peak(4) == told.weights + told.gradients + told.optimizer + told.kept(4)


def test_half_precision_nearly_halves_what_is_kept_and_needs_the_weights_twice() -> None:
    full, half = footprint("cnn"), footprint("cnn", dtype=torch.bfloat16)
    # The images themselves, and which pixel a pooling took, do not shrink.
    assert 0.5 < half.per_image / full.per_image < 0.6
    assert half.weights == full.weights + full.gradients // 2


def test_an_averaged_model_is_a_second_one() -> None:
    assert footprint("cnn", copies=2).weights == 2 * footprint("cnn").weights


def test_what_is_frozen_needs_no_gradient_and_no_state() -> None:
    def half_frozen() -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 50), nn.Linear(50, 9))
        model[1].requires_grad_(False)
        return model

    def sgd(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], momentum=0.9)

    told = footprint_of(half_frozen, sgd, (3, 32, 32))
    assert told.gradients == told.optimizer == 4 * (50 * 9 + 9)


def test_an_optimizer_that_needs_numbers_is_taken_to_remember_as_much_as_adam() -> None:
    class Curious(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            assert next(iter(self.param_groups[0]["params"])).sum().item() is not None

    told = footprint_of(lambda: built("cnn"), lambda model: Curious(model.parameters()), (3, 32, 32))
    assert told.optimizer == 2 * told.gradients


def test_a_network_that_looks_at_values_cannot_be_measured() -> None:
    class Curious(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 32 * 32, 9)

        def forward(self, images: Tensor) -> Tensor:
            outputs: Tensor = self.layer(images.flatten(1))
            return outputs if outputs.max().item() > 0 else -outputs

    with pytest.raises(RuntimeError, match="meta"):
        footprint_of(Curious, adam, (3, 32, 32))
