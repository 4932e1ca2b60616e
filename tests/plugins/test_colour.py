"""Colours: how far they change, and that each image draws for itself."""

from __future__ import annotations

import pytest
import torch

from augmenting import augmented, images, muted
from histoflow_plugins.colour import (
    COLOR_JITTER,
    ColorJitterParams,
    recoloured,
)

NOTHING = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def only(**strengths: float) -> ColorJitterParams:
    return ColorJitterParams(**{**NOTHING, **strengths})


def test_no_strength_changes_nothing() -> None:
    torch.testing.assert_close(augmented(COLOR_JITTER, ColorJitterParams(strength=0), images()), images())


def test_brightness_is_a_factor_for_each_image() -> None:
    factors = augmented(COLOR_JITTER, only(brightness=0.3), muted()) / muted()
    spread = factors.amax(dim=(1, 2, 3)) - factors.amin(dim=(1, 2, 3))
    assert spread.max() < 1e-5
    assert 0.7 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.3


def test_contrast_stretches_around_the_mean_of_each_image() -> None:
    results = augmented(COLOR_JITTER, only(contrast=0.5), muted())
    torch.testing.assert_close(results.mean(dim=(1, 2, 3)), muted().mean(dim=(1, 2, 3)))
    factors = results.std(dim=(1, 2, 3)) / muted().std(dim=(1, 2, 3))
    assert 0.5 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.5


def test_saturation_stretches_around_the_grey_of_each_pixel() -> None:
    before, results = muted(), augmented(COLOR_JITTER, only(saturation=0.5), muted())
    grey = before.mean(dim=1, keepdim=True)
    torch.testing.assert_close(results.mean(dim=1, keepdim=True), grey)
    factors = (results - grey).norm(dim=1) / (before - grey).norm(dim=1)
    assert 0.5 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.51


def test_hue_turns_colours_and_leaves_grey() -> None:
    before, results = muted(), augmented(COLOR_JITTER, only(hue=0.5), muted())
    grey = before.mean(dim=1, keepdim=True)
    torch.testing.assert_close(results.mean(dim=1, keepdim=True), grey)
    torch.testing.assert_close((results - grey).norm(dim=1), (before - grey).norm(dim=1))
    unchanged = torch.full((4, 3, 5, 5), 0.3)
    torch.testing.assert_close(augmented(COLOR_JITTER, only(hue=0.5, saturation=1), unchanged), unchanged)


def test_a_third_of_a_turn_makes_red_green() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    turned = recoloured(red, torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2 * torch.pi / 3))
    torch.testing.assert_close(turned.flatten(), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_without_three_channels_change_in_brightness_and_contrast(channels: int) -> None:
    batch = images(channels=channels)
    assert torch.equal(
        augmented(COLOR_JITTER, only(saturation=1, hue=0.5), batch), augmented(COLOR_JITTER, only(), batch)
    )
    assert not torch.equal(augmented(COLOR_JITTER, ColorJitterParams(), batch), batch)


def test_parts_follow_strength_unless_given() -> None:
    batch = images()
    spelled_out = ColorJitterParams(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    assert torch.equal(
        augmented(COLOR_JITTER, ColorJitterParams(strength=0.4), batch),
        augmented(COLOR_JITTER, spelled_out, batch),
    )
