"""Geometry: what may become of an image, and that each image draws for itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from augmenting import augmented, images
from histoflow import Transform
from histoflow_plugins import geometry
from histoflow_plugins.geometry import (
    FLIPS,
    RIGHT_ANGLES,
    ROTATION,
    SHIFT_SCALE,
    FlipsParams,
    RightAnglesParams,
    RotationParams,
    ShiftScaleParams,
    warped,
)


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


@pytest.mark.parametrize("transform", [FLIPS, RIGHT_ANGLES])
def test_bytes_go_where_floats_go(transform: Transform[Any]) -> None:
    stored = (255 * images(50)).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
    moved = augmented(transform, transform.params(), stored, seed=3)
    assert moved.dtype == torch.uint8
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved / 255, augmented(transform, transform.params(), stored / 255, seed=3))


@pytest.mark.parametrize("size", [(12, 12), (70, 70), (70, 80), (10, 12)])
@pytest.mark.parametrize("transform", [FLIPS, RIGHT_ANGLES])
def test_a_device_that_takes_all_images_at_once_does_the_same_as_either_library(
    transform: Transform[Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = images(50, 3, *size)
    one_by_one = augmented(transform, transform.params(), batch)
    monkeypatch.setattr(geometry, "_takes_one_by_one", lambda device: False)
    assert torch.equal(augmented(transform, transform.params(), batch), one_by_one)


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


def test_shifts_move_by_a_share_of_the_side() -> None:
    batch = images(2, height=10, width=20)
    moved = warped(batch, right=torch.tensor([0.1, 0.0]), down=torch.tensor([0.0, 0.2]))
    torch.testing.assert_close(moved[0, :, :, 2:], batch[0, :, :, :-2])
    torch.testing.assert_close(moved[1, :, 2:], batch[1, :, :-2])


def test_zoom_makes_things_larger_and_leaves_the_centre() -> None:
    batch = torch.zeros(1, 1, 41, 61)
    batch[:, :, 16:25, 26:35] = 1
    assert warped(batch, zoom=torch.tensor([2.0])).sum() == pytest.approx(4 * 81, rel=0.05)
    assert [float(offset) for offset in _spot(warped(batch, zoom=torch.tensor([2.0])))] == pytest.approx(
        [0, 0], abs=1e-3
    )


def test_shift_and_scale_keep_to_their_limits() -> None:
    batch = torch.zeros(200, 1, 41, 41)
    batch[:, :, 18:23, 18:23] = 1
    results = augmented(SHIFT_SCALE, ShiftScaleParams(shift=0.25, scale=0.2), batch)
    down, right = _spot(results)
    for offsets in (down, right):
        assert -0.25 * 41 - 0.1 <= offsets.min() < -0.2 * 41
        assert 0.2 * 41 < offsets.max() <= 0.25 * 41 + 0.1
    factors = results.sum(dim=(1, 2, 3)) / 25
    assert factors.min() < 0.85**2
    assert factors.max() > 1.15**2
