"""The built-in augmentation: what may become of an image, and that each image draws for itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from histoflow import Transform
from histoflow.experiment import parse
from histoflow.testing import check_component
from histoflow_plugins.augmentation import (
    COLOR_JITTER,
    FLIPS,
    RIGHT_ANGLES,
    ROTATION,
    ColorJitterParams,
    FlipsParams,
    RightAnglesParams,
    RotationParams,
)


def images(count: int = 64, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(count, channels, height, width, generator=Generator().manual_seed(0))


def augmented(transform: Transform[Any], params: Any, batch: Tensor, seed: int = 0) -> Tensor:
    augment: Any = transform.build(params)
    result: Tensor = augment(batch, Generator(device=batch.device).manual_seed(seed))
    return result


ALL = [
    (FLIPS, FlipsParams()),
    (FLIPS, FlipsParams(horizontal=0.1, vertical=0)),
    (RIGHT_ANGLES, RightAnglesParams()),
    (ROTATION, RotationParams()),
    (ROTATION, RotationParams(degrees=180)),
    (COLOR_JITTER, ColorJitterParams()),
    (COLOR_JITTER, ColorJitterParams(strength=1)),
]


@pytest.mark.parametrize(("transform", "params"), ALL)
def test_contract(transform: Transform[Any], params: Any) -> None:
    check_component(transform, params)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("transform", "params"), ALL)
def test_the_gpu_does_the_same_work(transform: Transform[Any], params: Any) -> None:
    batch = images().cuda()
    once, twice = (augmented(transform, params, batch) for _ in range(2))
    assert once.device == batch.device
    assert torch.equal(once, twice)


def test_an_experiment_chooses_them_by_name_or_with_parameters() -> None:
    experiment = parse({"dataset": "tissue", "augment": ["flips", {"name": "color_jitter", "strength": 0.2}]})
    assert [choice.name for choice in experiment.augment] == ["flips", "color_jitter"]
    batch = images()
    for choice, transform in zip(experiment.augment, (FLIPS, COLOR_JITTER), strict=True):
        batch = augmented(transform, choice, batch)
    assert batch.shape == (64, 3, 12, 12)


# ── Geometry ────────────────────────────────────────────────────────────────────────────────────


def which(results: Tensor, candidates: list[Tensor]) -> list[int]:
    """For each image, which of the candidates it has become."""
    found = []
    for position, result in enumerate(results):
        matches = [torch.equal(result, candidate[position]) for candidate in candidates]
        assert sum(matches) == 1
        found.append(matches.index(True))
    return found


def test_flips_mirror_each_image_by_itself() -> None:
    batch = images(400)
    candidates = [batch, batch.flip(3), batch.flip(2), batch.flip(2, 3)]
    found = which(augmented(FLIPS, FlipsParams(horizontal=0.5, vertical=0.2), batch), candidates)
    shares = [found.count(number) / 400 for number in range(4)]
    assert shares == pytest.approx([0.4, 0.4, 0.1, 0.1], abs=0.08)


@pytest.mark.parametrize(
    ("horizontal", "vertical", "flipped"), [(0, 0, ()), (1, 0, (3,)), (0, 1, (2,)), (1, 1, (2, 3))]
)
def test_flips_at_the_extremes(horizontal: float, vertical: float, flipped: tuple[int, ...]) -> None:
    batch = images()
    result = augmented(FLIPS, FlipsParams(horizontal=horizontal, vertical=vertical), batch)
    assert torch.equal(result, batch.flip(flipped))


def test_right_angles_are_equally_likely() -> None:
    batch = images(400)
    candidates = [batch.rot90(turn, (2, 3)) for turn in range(4)]
    found = which(augmented(RIGHT_ANGLES, RightAnglesParams(), batch), candidates)
    assert [found.count(turn) / 400 for turn in range(4)] == pytest.approx([0.25] * 4, abs=0.08)


def test_images_that_are_not_square_turn_upside_down_only() -> None:
    batch = images(200, height=8)
    found = which(augmented(RIGHT_ANGLES, RightAnglesParams(), batch), [batch, batch.rot90(2, (2, 3))])
    assert found.count(1) / 200 == pytest.approx(0.5, abs=0.1)


def test_no_rotation_changes_nothing() -> None:
    batch = images()
    torch.testing.assert_close(augmented(ROTATION, RotationParams(degrees=0), batch), batch)


def test_rotation_turns_around_the_centre_without_distortion() -> None:
    """A spot keeps its distance from the centre, also where the image is not square."""
    batch = torch.zeros(100, 1, 61, 91)
    batch[:, :, 28:33, 58:63] = 1.0  # 15 pixels right of the centre
    results = augmented(ROTATION, RotationParams(degrees=90), batch)
    down, right = _spot(results)
    assert torch.hypot(down, right).tolist() == pytest.approx([15.0] * 100, abs=0.2)
    angles = torch.atan2(down, right).rad2deg()
    assert -91 < angles.min() < -70
    assert 70 < angles.max() < 91


def _spot(results: Tensor) -> tuple[Tensor, Tensor]:
    """How far below and right of the centre the spot lies."""
    weights = results[:, 0] / results[:, 0].sum(dim=(1, 2), keepdim=True)
    height, width = weights.shape[1:]
    down = torch.arange(height) - (height - 1) / 2
    right = torch.arange(width) - (width - 1) / 2
    return (weights.sum(dim=2) * down).sum(dim=1), (weights.sum(dim=1) * right).sum(dim=1)


def test_corners_are_filled_from_the_image_itself() -> None:
    batch = 0.5 + 0.2 * images()
    results = augmented(ROTATION, RotationParams(degrees=180), batch)
    assert results.min() >= 0.5
    assert results.max() <= 0.7 + 1e-6


# ── Colour ──────────────────────────────────────────────────────────────────────────────────────

NOTHING = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def only(**strengths: float) -> ColorJitterParams:
    return ColorJitterParams(**{**NOTHING, **strengths})


def muted() -> Tensor:
    """Images that stay within 0 to 1 whatever a small change does to them."""
    return 0.4 + 0.2 * images()


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
    from histoflow_plugins.augmentation import _change_colour

    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    third = torch.full((1, 1, 1, 1), 2 * torch.pi / 3)
    turned = _change_colour(red, torch.ones(1, 1, 1, 1), third)
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


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (FlipsParams, {"horizontal": 1.1}),
        (RightAnglesParams, {"degrees": 90}),
        (RotationParams, {"degrees": 181}),
        (ColorJitterParams, {"strength": -0.1}),
        (ColorJitterParams, {"hue": 0.6}),
    ],
)
def test_parameters_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)
