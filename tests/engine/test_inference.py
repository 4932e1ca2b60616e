"""A network made ready for inference says what the original says, and the original stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18, vgg11_bn

from histoflow.engine import inference
from histoflow.engine.inference import Tta, prepare, views
from histoflow.errors import CheckpointError

CPU = torch.device("cpu")
SIZE = (3, 32, 32)


def trained(network: nn.Module) -> nn.Module:
    """With running statistics that are not the initial ones, as after training."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return network


def small() -> nn.Module:
    torch.manual_seed(1)
    return trained(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4),
        )
    )  # fmt: skip


def vgg() -> nn.Module:
    """Without the head of a hundred million weights, but with the pooling that enlarges small features."""
    whole = vgg11_bn(init_weights=False)
    return nn.Sequential(whole.features, whole.avgpool, nn.Flatten(), nn.Linear(512 * 49, 3))


def difference(one: nn.Module, other: nn.Module, count: int = 5) -> float:
    images = torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return float((one(images) - deepcopy(other).eval()(images)).abs().max())


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


@pytest.mark.parametrize("blocked", [True, False])
@pytest.mark.parametrize(
    ("build", "norms_left"),
    [(small, 0), (resnet18, 0), (vgg, 0), (lambda: densenet121(num_classes=3), 62)],
)
def test_outputs_are_the_same_with_batch_norms_folded(
    build: Callable[[], nn.Module], norms_left: int, blocked: bool
) -> None:
    network = trained(build())
    ready = prepare(network, CPU, SIZE, blocked=blocked)
    assert difference(ready, network) < 1e-5
    assert count(ready, nn.BatchNorm2d) == norms_left
    assert (count(ready, nn.Conv2d) == 0) == blocked
    assert not ready.training


def test_the_model_itself_is_left_as_it_was() -> None:
    network = small().train()
    before = deepcopy(network.state_dict())
    prepare(network, CPU, SIZE)
    assert network.training
    assert count(network, nn.BatchNorm2d) == 2
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_network_that_gives_no_finite_numbers_is_told() -> None:
    network = small()
    with torch.no_grad():
        network[10].bias[2] = torch.inf  # type: ignore[index]
    with pytest.raises(
        CheckpointError, match=r"must give finite numbers.*weights are damaged.*Train it again"
    ):
        prepare(network, CPU, SIZE)


def test_nothing_is_folded_unless_asked() -> None:
    ready = prepare(small(), CPU, SIZE, fold=False, blocked=False)
    assert count(ready, nn.BatchNorm2d) == 2
    assert difference(ready, small()) < 1e-5


class Branches(nn.Module):
    """Cannot be traced: what it does depends on what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images if images.mean() > 100 else images * 0.5)


class UsedTwice(nn.Module):
    """Folding the norm into the convolution would change what else the convolution is used for."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        once = self.convolution(images)
        return (self.norm(once) + once + self.convolution(once)).mean(dim=(2, 3))


class OfTheBatch(nn.Module):
    """Judges by the statistics of the batch, also in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)).amax(dim=(2, 3))


@pytest.mark.parametrize("build", [Branches, UsedTwice, OfTheBatch])
def test_what_cannot_be_folded_stays_right(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(4)
    network = trained(build())
    ready = prepare(network, CPU, SIZE)
    assert difference(ready, network) < 1e-5
    assert count(ready, nn.BatchNorm2d) == count(network, nn.BatchNorm2d)


def test_a_change_that_alters_the_outputs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
        traced.get_submodule("10").bias.data += 1  # type: ignore[union-attr, operator]
        return traced

    monkeypatch.setattr(inference, "_folded", wrong)
    assert difference(prepare(small(), CPU, SIZE), small()) < 1e-5


# ── Views ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tta", "number"), [("none", 1), ("flips", 4), ("dihedral", 8)])
def test_views_are_all_different_and_begin_with_the_image_itself(tta: Tta, number: int) -> None:
    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).float()
    seen = [view(images) for view in views(tta)]
    assert torch.equal(seen[0], images)
    assert len({tuple(one.flatten().tolist()) for one in seen}) == number
    assert all(torch.equal(one.flatten(2).sort().values, images.flatten(2)) for one in seen)


def test_flips_keep_the_shape_of_images_that_are_not_square() -> None:
    assert {view(torch.zeros(1, 3, 4, 6)).shape for view in views("flips")} == {(1, 3, 4, 6)}
