"""The built-in networks: the contract, honest smallest sizes, ImageNet weights, frozen bases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from histoflow import Architecture, DataError, DataInfo
from histoflow.testing import check_component
from histoflow_plugins.cnn import CNN, CNN5, CNN5_WIDTHS, Cnn5Params, CnnParams
from histoflow_plugins.torchvision_networks import (
    DENSENET121,
    RESNET,
    VGG16,
    Densenet121Params,
    ResnetParams,
    Vgg16Params,
)
from imagenet import Served, redirect, serves
from servers import Server, answers, gives, serving

SMALL_DENSENET = Densenet121Params(stem="small")


def info(side: int, channels: int = 3) -> DataInfo:
    return DataInfo(task="binary", classes=("no", "yes"), channels=channels, size=(side, side))


# ── The contract ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("architecture", "params"),
    [
        (CNN, CnnParams(widths=(8, 16, 24))),
        (CNN, CnnParams(widths=(6,), convolutions=1, dropout=0)),
        (CNN5, Cnn5Params()),
        (RESNET, ResnetParams()),
        (RESNET, ResnetParams(stem="small")),
        (DENSENET121, Densenet121Params()),
        (VGG16, Vgg16Params()),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
def test_contract_at_the_smallest_size(architecture: Architecture[Any], params: Any) -> None:
    check_component(architecture, params)


@pytest.mark.parametrize(
    ("architecture", "params"),
    [
        (CNN, CnnParams(widths=(4, 4, 4))),
        (CNN5, Cnn5Params()),
        (DENSENET121, Densenet121Params()),
        (DENSENET121, SMALL_DENSENET),
        (VGG16, Vgg16Params(batch_norm=False)),
    ],
    ids=lambda value: getattr(value, "name", repr(value)),
)
def test_one_pixel_below_the_smallest_size_fails(architecture: Architecture[Any], params: Any) -> None:
    side = architecture.smallest_side(params) - 1
    model = architecture.build(params, info(side), 1)
    with pytest.raises(RuntimeError, match="too small"):
        model(torch.rand(2, 3, side, side))


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_below_its_smallest_size_a_stage_of_resnet_halves_nothing(stem: Any) -> None:
    params = ResnetParams(stem=stem)
    model = RESNET.build(params, info(32), 1).eval()
    smallest = RESNET.smallest_side(params)
    assert _stage_sides(model, smallest)[-2:] == [2, 1]
    assert _stage_sides(model, smallest - 1)[-2:] == [1, 1]


def _stage_sides(model: nn.Module, side: int) -> list[int]:
    sides: list[int] = []
    hooks = [
        model.get_submodule(f"base.layer{number}").register_forward_hook(
            lambda _module, _inputs, output: sides.append(output.shape[2])
        )
        for number in (1, 2, 3, 4)
    ]
    model(torch.rand(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return sides


@pytest.mark.parametrize("plugin", ["cnn", "torchvision_networks", "losses", "optimizers", "schedulers"])
def test_listing_a_plugin_imports_neither_torch_nor_numpy(plugin: str) -> None:
    code = f"import histoflow_plugins.{plugin}, sys; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ── cnn and cnn5 ────────────────────────────────────────────────────────────────────────────────


def layers(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_cnn_has_the_blocks_asked_for() -> None:
    model = CNN.build(CnnParams(widths=(4, 8, 6), convolutions=3, dropout=0.25), info(16, channels=2), 7)
    widths = [(layer.in_channels, layer.out_channels) for layer in layers(model, nn.Conv2d)]
    assert widths == [(2, 4), (4, 4), (4, 4), (4, 8), (8, 8), (8, 8), (8, 6), (6, 6), (6, 6)]
    assert len(layers(model, nn.MaxPool2d)) == 2
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.25]
    assert layers(model, nn.Linear)[0].out_features == 7


def test_cnn5_is_the_network_of_the_notebooks() -> None:
    model = CNN5.build(Cnn5Params(dropout=0.4), info(96), 1)
    convolutions = layers(model, nn.Conv2d)
    assert tuple(layer.out_channels for layer in convolutions) == CNN5_WIDTHS == (32, 64, 128, 256, 512)
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert len(layers(model, nn.BatchNorm2d)) == len(layers(model, nn.MaxPool2d)) == 5
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.4]


@pytest.mark.parametrize(
    "wrong", [{"widths": ()}, {"widths": (0,)}, {"convolutions": 0}, {"dropout": 1.0}, {"depth": 3}]
)
def test_cnn_refuses_what_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CnnParams(**wrong)


# ── Freezing ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("architecture", "params", "expected"),
    [
        (RESNET, ResnetParams(), []),
        (RESNET, ResnetParams(weights="imagenet", freeze=True), []),
        (RESNET, ResnetParams(freeze=True), ["Set weights: imagenet"]),
        (RESNET, ResnetParams(weights="imagenet", freeze=True, stem="small"), ["Set stem: imagenet"]),
        (VGG16, Vgg16Params(freeze=True), ["Set weights: imagenet"]),
        (DENSENET121, Densenet121Params(freeze=True), ["Set weights: imagenet"]),
        (
            DENSENET121,
            Densenet121Params(weights="imagenet", freeze=True, stem="small"),
            ["Set stem: imagenet"],
        ),
    ],
)
def test_freezing_random_layers_is_a_mistake(
    architecture: Architecture[Any], params: Any, expected: list[str]
) -> None:
    found = list(architecture.check(params, info(64)))
    assert len(found) == len(expected)
    assert all(words in complaint for words, complaint in zip(expected, found, strict=True))


def test_a_frozen_base_stays_as_it_is_while_the_head_learns(served: Served) -> None:
    served("resnet18")
    model = RESNET.build(ResnetParams(weights="imagenet", freeze=True), info(32), 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"head.3.weight", "head.3.bias"}
    _train_one_step(model.train())
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == learning


def _train_one_step(model: nn.Module) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(("depth", "features"), [(18, 512), (34, 512), (50, 2048)])
def test_resnet_has_the_depth_asked_for(depth: Any, features: int) -> None:
    model = RESNET.build(ResnetParams(depth=depth, stem="small"), info(8), 4)
    weighted = [name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len([name for name in weighted if "downsample" not in name]) == depth
    assert layers(model, nn.Linear)[0].in_features == features
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 4)


def test_an_unfrozen_base_keeps_statistics_again() -> None:
    model = RESNET.build(ResnetParams(), info(32), 2)
    assert all(layer.training for layer in layers(model.eval().train(), nn.BatchNorm2d))


# ── ImageNet weights, downloaded by torchvision's own code from a server on this machine ────────


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> Served:
    return serves(server, monkeypatch)


def test_imagenet_weights_are_those_of_torchvision(served: Served, server: Server, cache: Path) -> None:
    original = served("resnet18")
    params = ResnetParams(weights="imagenet")
    models = [RESNET.build(params, info(64), 2).eval() for _ in range(2)]
    images = torch.rand(2, 3, 64, 64)
    for model in models:
        torch.testing.assert_close(_features(model, images), _features_of_torchvision(original, images))
    assert len(server.asked) == 1
    assert len(list(cache.iterdir())) == 1


def _features(model: nn.Module, images: Tensor) -> Tensor:
    features: Tensor = model.get_submodule("base")(images).mean(dim=(2, 3))
    return features


def _features_of_torchvision(model: nn.Module, images: Tensor) -> Tensor:
    model.fc = nn.Identity()
    features: Tensor = model(images)
    return features


def test_files_of_2017_are_read_without_unpickling(served: Served) -> None:
    original = served("densenet121", old_fashioned=True)
    original.classifier = nn.Identity()
    model = DENSENET121.build(Densenet121Params(weights="imagenet"), info(32), 2).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(_features(model, images), original(images))


def test_a_pretrained_network_sees_a_grey_image_as_it_would_in_colour(
    served: Served,
) -> None:
    served("resnet18")
    params = ResnetParams(weights="imagenet")
    colour, grey = (RESNET.build(params, info(32, channels), 2).eval() for channels in (3, 1))
    images = torch.rand(2, 1, 32, 32)
    expected = _features(colour, images.repeat(1, 3, 1, 1))
    torch.testing.assert_close(_features(grey, images), expected, rtol=1e-3, atol=1e-4)


def test_other_channels_share_the_filters_evenly(served: Served) -> None:
    original = served("resnet18").state_dict()["conv1.weight"]
    model = RESNET.build(ResnetParams(weights="imagenet"), info(32, channels=4), 2)
    weight = model.get_submodule("base.conv1").weight
    assert weight.shape == (64, 4, 7, 7)
    torch.testing.assert_close(weight.sum(dim=1), original.sum(dim=1))


def test_a_small_stem_is_new_and_the_rest_is_pretrained(served: Served) -> None:
    original = served("resnet18").state_dict()
    model = RESNET.build(ResnetParams(weights="imagenet", stem="small"), info(32), 2)
    state = model.get_submodule("base").state_dict()
    assert state["conv1.weight"].shape == (64, 3, 3, 3)
    same = [name for name in state if name in original and torch.equal(state[name], original[name])]
    assert set(same) == set(state) - {"conv1.weight"}


def test_a_small_stem_keeps_the_size_of_the_image() -> None:
    model = RESNET.build(ResnetParams(stem="small"), info(32), 2).eval()
    assert _stage_sides(model, 32) == [32, 16, 8, 4]


# ── When the download fails ─────────────────────────────────────────────────────────────────────


def _build_pretrained() -> nn.Module:
    return RESNET.build(ResnetParams(weights="imagenet"), info(32), 2)


@pytest.mark.parametrize(
    ("architecture", "params"),
    [
        (RESNET, ResnetParams(weights="imagenet", freeze=True)),
        (DENSENET121, Densenet121Params(weights="imagenet")),
    ],
)
def test_the_skeleton_has_the_same_tensors_and_fetches_nothing(
    architecture: Architecture[Any], params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("asked the network"))
    assert architecture.skeleton is not None
    skeleton = architecture.skeleton(params, info(64), 2)
    scratch = architecture.build(params.model_copy(update={"weights": "none"}), info(64), 2)
    shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (skeleton, scratch)]
    assert shapes[0] == shapes[1]
    assert [p.requires_grad for p in skeleton.parameters()] == [p.requires_grad for p in scratch.parameters()]


def test_a_refused_download_is_one_clear_error(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(monkeypatch, "resnet18", server.at("resnet18-00000000.pth", answers(404)))
    with pytest.raises(
        DataError, match=r"resnet18 cannot be downloaded from http.*404.*weights: none"
    ) as error:
        _build_pretrained()
    assert f"place it at {cache / 'resnet18-00000000.pth'}, or set weights: none" in str(error.value)


def test_no_network_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as closed:
        url = closed.at("resnet18-00000000.pth", answers(404))
    redirect(monkeypatch, "resnet18", url)
    with pytest.raises(DataError, match=r"cannot be downloaded.*Check the network"):
        _build_pretrained()


def test_a_file_with_another_hash_is_refused(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(monkeypatch, "resnet18", server.at("resnet18-00000000.pth", gives(b"something else")))
    with pytest.raises(DataError, match=r"cannot be downloaded.*invalid hash value"):
        _build_pretrained()
    assert not list(cache.glob("*.pth"))


def test_a_damaged_file_in_the_cache_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redirect(monkeypatch, "resnet18", "http://127.0.0.1:9/resnet18-00000000.pth")
    cache.mkdir(parents=True)
    (cache / "resnet18-00000000.pth").write_bytes(b"not a network")
    with pytest.raises(DataError, match=r"resnet18-00000000.pth is damaged.*Delete it"):
        _build_pretrained()


def test_weights_of_another_network_in_the_cache_are_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redirect(monkeypatch, "resnet18", "http://127.0.0.1:9/resnet18-00000000.pth")
    cache.mkdir(parents=True)
    torch.save({"conv1.weight": torch.zeros(1)}, cache / "resnet18-00000000.pth")
    with pytest.raises(DataError, match=r"does not hold the ImageNet weights of resnet18"):
        _build_pretrained()
