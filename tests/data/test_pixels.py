"""From bytes to normalised floats: as the plain formula says, whatever the memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from histoflow.data.pixels import Buffers, Pixels, resized

CPU = torch.device("cpu")


def stored(*shape: int) -> Tensor:
    """N×C×H×W as they are packed: channels last."""
    count, channels, height, width = shape
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def plain(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    column = (1, -1, 1, 1)
    return (images.double() / 255 - torch.tensor(mean).view(column)) / torch.tensor(std).view(column)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("buffers", [None, Buffers()], ids=["anew", "again"])
def test_both_ways_to_normalised_floats_are_the_plain_formula(channels: int, buffers: Buffers | None) -> None:
    mean, std = [0.7, 0.5, 0.6, 0.1][:channels], [0.1, 0.2, 0.15, 1.0][:channels]
    pixels, images = Pixels(mean, std, CPU), stored(5, channels, 7, 9)
    level = 1 / 255 / max(std)
    for found in (
        pixels.normalised_bytes(images, buffers).clone(),
        pixels.normalise(pixels.unit(images, buffers), buffers),
        pixels.normalise(pixels.unit(images).contiguous(), buffers),
    ):
        assert (found.double() - plain(images, mean, std)).abs().max() < level / 1000
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_unit_pixels_run_from_0_to_1() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert torch.allclose(Pixels([0.5], [0.1], CPU).unit(images).flatten(), torch.tensor([0, 0.2, 1]))


def test_normalising_leaves_what_it_was_given() -> None:
    images = torch.rand(2, 3, 4, 4)
    before = images.clone()
    Pixels([0.5] * 3, [0.1] * 3, CPU).normalise(images, Buffers())
    assert torch.equal(images, before)


def test_a_smaller_batch_takes_the_same_memory() -> None:
    buffers = Buffers()
    first = buffers.of((4, 5), torch.float32)
    assert buffers.of((3, 5), torch.float32).data_ptr() == first.data_ptr()
    assert buffers.of((3, 5), torch.float32, "other").data_ptr() != first.data_ptr()
    assert buffers.of((5, 5), torch.float32).shape == (5, 5)


def test_resizing_is_what_pillow_does_within_a_level() -> None:
    smooth = torch.nn.functional.interpolate(stored(3, 3, 6, 8).float(), (48, 64), mode="bicubic")
    images = smooth.clamp(0, 255).byte().contiguous(memory_format=torch.channels_last)
    found = resized(images, 20)
    assert found.shape == (3, 3, 20, 27)
    for image, original in zip(found, images, strict=True):
        small = Image.fromarray(original.permute(1, 2, 0).numpy()).resize((27, 20), Image.Resampling.BILINEAR)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - np.asarray(small)).max() <= 1


@pytest.mark.parametrize("side", [None, 6, 100])
def test_images_are_never_made_larger(side: int | None) -> None:
    images = stored(2, 3, 6, 8)
    assert resized(images, side) is images
