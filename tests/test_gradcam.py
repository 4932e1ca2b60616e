"""Which places of an image speak for a class, for networks that hold their places in different ways."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from histoflow import Architecture, DataInfo, Params
from histoflow.errors import ExplanationError, PluginError
from histoflow.explanation.features import feature_layer, features_of
from histoflow.explanation.gradcam import SpatialLayer, class_maps, spatial_layer
from histoflow.registry import installed


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def images(count: int = 3, channels: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.rand(count, channels, *size)


def convolutions(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, outputs),
    ).eval()


def swin() -> nn.Module:
    layers: dict[str, Any] = {"patch_size": [2, 2], "depths": [2, 2], "num_heads": [1, 2]}
    return SwinTransformer(embed_dim=8, window_size=[2, 2], num_classes=3, **layers).eval()


def quickly_built(architecture: Architecture[Any], data: DataInfo) -> nn.Module:
    """With weights of its own kind: most of the time that VGG takes goes into those that it throws away."""
    with torch.device("meta"):
        model = architecture.build(architecture.params(), data, 1)
    model.to_empty(device="cpu")
    for weights in model.parameters():
        nn.init.kaiming_normal_(weights) if weights.ndim > 1 else nn.init.ones_(weights)
    for statistics in model.buffers():
        statistics.fill_(1)
    return model.eval()


class OneSpot(nn.Module):
    """Sees brightness alone: the first output rises with it, the second falls."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.AvgPool2d(4)
        self.unused = nn.Conv2d(1, 1, 1)

    def forward(self, batch: Tensor) -> Tensor:
        places = self.places(batch)
        self.unused(places)
        brightness = places.mean(dim=(1, 2, 3))
        return torch.stack([brightness, -brightness], dim=1)


class Aside(nn.Module):
    """Has a layer whose output nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Linear(8, 2)

    def forward(self, batch: Tensor) -> Tensor:
        found: Tensor = self.body(batch)
        self.aux(found)
        outputs: Tensor = self.head(found.mean(dim=(2, 3)))
        return outputs


class Overwriting(Aside):
    """Changes what the gradient of its sigmoid needs."""

    def forward(self, batch: Tensor) -> Tensor:
        found = torch.sigmoid(self.body(batch)).mul_(2)
        outputs: Tensor = self.head(found.mean(dim=(2, 3)))
        return outputs


class Attention(nn.Module):
    """As timm writes it: its dropout gives images × heads × tokens × tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.attn_drop = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Dropout()

    def forward(self, tokens: Tensor) -> Tensor:
        count, length, width = tokens.shape
        query, key, value = self.qkv(self.norm(tokens)).view(count, length, 3, 2, -1).permute(2, 0, 3, 1, 4)
        mixed = self.attn_drop((query @ key.mT).softmax(dim=-1)) @ value
        return tokens + mixed.transpose(1, 2).reshape(count, length, width)


class Tokens(nn.Module):
    def __init__(self, *, with_class: bool) -> None:
        super().__init__()
        self.patches, self.with_class = nn.Conv2d(3, 16, 16, 16), with_class
        self.blocks, self.head = nn.Sequential(Attention(16), Attention(16)), nn.Linear(16, 2)

    def forward(self, batch: Tensor) -> Tensor:
        tokens = self.patches(batch).flatten(2).mT
        if self.with_class:
            tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        tokens = self.blocks(tokens)
        outputs: Tensor = self.head(tokens[:, 0] if self.with_class else tokens.mean(dim=1))
        return outputs


@pytest.mark.parametrize("name", sorted(installed().of_kind(Architecture)))
def test_every_built_in_network_shows_where_it_looks(name: str) -> None:
    """Of one output for two classes; what speaks for one of them is not what speaks for the other."""
    architecture = installed().get(Architecture, name)
    data = DataInfo(task="binary", classes=("normal", "tumour"), channels=1, size=(48, 64))
    model = quickly_built(architecture, data)
    batch = images(2, 1, (48, 64))
    layer = spatial_layer(model, batch, architecture.named_layer(architecture.params()))
    maps = [class_maps(model, layer, batch, [number] * 2, of=2) for number in (0, 1)]
    assert all(found.shape == (2, *layer.grid) for found in maps)
    assert min(layer.grid) > 1
    assert all(float(found.max()) <= 1 and float(found.min()) >= 0 for found in maps)
    assert max(float(found.max()) for found in maps) == 1
    assert not torch.equal(*maps)


@pytest.mark.parametrize("model", [convolutions(3), swin()], ids=["convolutions", "swin"])
def test_maps_are_those_of_captum(model: nn.Module) -> None:
    batch = images(size=(32, 48))
    layer = spatial_layer(model, batch)
    found = class_maps(model, layer, batch, [0, 2, 1], of=3)
    reference = LayerGradCam(model, model.get_submodule(layer.name)).attribute(
        batch, target=torch.tensor([0, 2, 1]), relu_attributions=True
    )[:, 0]
    assert layer.grid == tuple(reference.shape[1:])
    peaks = reference.amax(dim=(1, 2), keepdim=True)
    assert (peaks > 0).any()
    torch.testing.assert_close(found, (reference / peaks.clamp(min=1e-30)).detach())


def test_the_last_layer_that_is_run_is_found_after_its_activation() -> None:
    assert spatial_layer(convolutions(3), images()) == SpatialLayer("5", "channels first", (16, 16))


def test_a_layer_that_matters_to_no_output_is_passed_over() -> None:
    assert spatial_layer(OneSpot(), images(channels=1)).name == "places"


def test_the_map_peaks_where_the_class_is_and_is_empty_for_its_contrary() -> None:
    batch = torch.zeros(2, 1, 32, 32)
    batch[:, :, 20:24, 4:8] = 1
    model = OneSpot()
    maps = class_maps(model, spatial_layer(model, batch), batch, [0, 1], of=2)
    assert maps[0].argmax().item() == 5 * 8 + 1
    assert maps[0].sum() == 1
    assert not maps[1].any()


def test_one_output_speaks_for_the_second_class_and_its_negative_for_the_first() -> None:
    model, batch = convolutions(1), images()
    layer = spatial_layer(model, batch)
    ones = class_maps(model, layer, batch, [1, 1, 1], of=2)
    model.append(nn.Linear(1, 1, bias=False))
    nn.init.constant_(model[-1].weight, -1)
    torch.testing.assert_close(class_maps(model, layer, batch, [0, 0, 0], of=2), ones)


def test_of_a_vision_transformer_the_tokens_of_the_image_are_laid_out() -> None:
    """Its outputs come from the class token alone; those of the image last matter before the last attention."""
    model = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
    ).eval()
    nn.init.normal_(model.heads.head.weight)
    layer = spatial_layer(model, images())
    assert layer == SpatialLayer("encoder.layers.encoder_layer_1.ln_1", "tokens", (4, 4))
    tokens = torch.arange(17.0).reshape(1, 17, 1)
    assert layer.places(tokens)[0, 0].tolist() == torch.arange(1.0, 17).reshape(4, 4).tolist()
    assert class_maps(model, layer, images(), [0, 1, 2], of=3).shape == (3, 4, 4)


def test_a_layer_that_is_named_may_hold_its_channels_last() -> None:
    model, batch = swin(), images()
    found, named = spatial_layer(model, batch), spatial_layer(model, batch, "norm")
    assert (found.layout, named.layout) == ("channels first", "channels last")
    torch.testing.assert_close(
        class_maps(model, named, batch, [0, 1, 2], of=3), class_maps(model, found, batch, [0, 1, 2], of=3)
    )


def test_frozen_layers_are_looked_into_and_nothing_is_left_behind() -> None:
    model, batch = convolutions(3).requires_grad_(False), images()
    maps = class_maps(model, spatial_layer(model, batch), batch, [0, 1, 2], of=3)
    assert maps.any()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not batch.requires_grad


def test_without_places_it_says_so() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ExplanationError, match="no layer with an output for each part of the image"):
        spatial_layer(model, images())


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("backbone", r"must name a module that its network calls.*Got 'backbone'.*The last of them:.*8"),
        ("aux", r"on whose places the outputs depend. Got 'aux'"),
        ("7", r"'7' of the architecture must give N×C×h×w.*For images of \(3, 3, 32, 32\) it gives \(3, 8\)"),
    ],
)
def test_a_wrong_name_is_told(named: str, words: str) -> None:
    with pytest.raises(ExplanationError, match=words):
        spatial_layer(Aside() if named == "aux" else convolutions(3), images(), named)


@pytest.mark.parametrize("with_class", [True, False])
def test_how_tokens_look_at_each_other_is_no_grid_of_the_image(with_class: bool) -> None:
    layer = spatial_layer(Tokens(with_class=with_class).eval(), images(2, size=(64, 64)))
    assert (layer.layout, layer.grid) == ("tokens", (4, 4))


def test_a_network_that_has_no_gradients_is_told() -> None:
    with pytest.raises(ExplanationError, match="cannot tell how its outputs depend.*inplace operation"):
        spatial_layer(Overwriting(), images())


def test_outputs_that_stand_for_no_class_are_told() -> None:
    model, batch = convolutions(4), images()
    with pytest.raises(ExplanationError, match="4 outputs for 5 classes"):
        class_maps(model, spatial_layer(model, batch), batch, [0, 1, 2], of=5)


def test_features_are_what_goes_into_the_last_linear_layer() -> None:
    model, batch = convolutions(3), images()
    layer = feature_layer(model, batch)
    features = features_of(model, layer, batch)
    assert layer.name == "8"
    torch.testing.assert_close(features, model[:8](batch).detach())
    torch.testing.assert_close(model[8](features), model(batch))


def test_without_a_linear_layer_features_are_the_means_over_the_last_places() -> None:
    model, batch = convolutions(3)[:8], images()
    layer = feature_layer(model, batch)
    torch.testing.assert_close(features_of(model, layer, batch), model[:6](batch).mean(dim=(2, 3)).detach())


def test_a_plugin_names_its_layer_outright_or_by_its_parameters() -> None:
    class Depth(Params):
        depth: int = 3

    def architecture(named: Any) -> Architecture[Depth]:
        build = installed().get(Architecture, "cnn").build
        return Architecture(name="deep", summary="Deep", params=Depth, build=build, spatial_layer=named)

    assert architecture("stem").named_layer(Depth()) == "stem"
    assert architecture(lambda params: f"blocks.{params.depth - 1}").named_layer(Depth()) == "blocks.2"
    assert architecture(None).named_layer(Depth()) is None
    with pytest.raises(PluginError, match="spatial_layer of architecture 'deep' must be the name.*Got 7"):
        architecture(7)
