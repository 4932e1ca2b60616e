"""The built-in preprocessing: what becomes of the pixels, exactly."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from histoflow import DataError, Transform
from histoflow.testing import check_component
from histoflow_plugins.preprocessing import (
    CENTER_CROP,
    RESIZE,
    TO_RGB,
    CenterCropParams,
    ResizeParams,
    ToRgbParams,
)


def image(height: int, width: int, channels: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize(
    ("transform", "params"),
    [
        (RESIZE, ResizeParams()),
        (RESIZE, ResizeParams(size=300, filter="lanczos")),
        (CENTER_CROP, CenterCropParams()),
        (TO_RGB, ToRgbParams()),
    ],
)
def test_contract(transform: Transform[Any], params: Any) -> None:
    check_component(transform, params)


@pytest.mark.parametrize(
    ("transform", "params"),
    [(RESIZE, ResizeParams(size=8)), (CENTER_CROP, CenterCropParams(size=8)), (TO_RGB, ToRgbParams())],
)
def test_what_is_built_can_be_sent_to_other_processes(transform: Transform[Any], params: Any) -> None:
    step, original = transform.build(params), image(20, 12, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(step))(original), step(original))


def test_listing_transforms_imports_neither_torch_nor_numpy() -> None:
    modules = ("preprocessing", "geometry", "colour", "stain", "artefacts", "mixing", "policies")
    imports = ", ".join(f"histoflow_plugins.{module}" for module in modules)
    code = f"import {imports}, sys; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ── resize ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("filter_", ["bilinear", "bicubic", "lanczos", "box"])
def test_each_channel_is_resized_as_by_pillow(channels: int, filter_: Any) -> None:
    original = image(40, 25, channels)
    resized = RESIZE.build(ResizeParams(size=16, filter=filter_))(original)
    resampling = Image.Resampling[filter_.upper()]
    for channel in range(channels):
        plane = Image.fromarray(original[:, :, channel])
        assert np.array_equal(resized[:, :, channel], np.asarray(plane.resize((16, 16), resampling)))


def test_shrinking_skips_no_pixel() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    resized = RESIZE.build(ResizeParams(size=8))(stripes)
    assert np.ptp(resized[:, 1:-1]) <= 1  # the outermost see a stripe more on one side
    assert abs(resized.mean() - 127.5) < 1


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    original = image(20, 20, 3)
    assert np.array_equal(RESIZE.build(ResizeParams(size=20))(original), original)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 4097}, {"filter": "nearest"}, {"size": 6.5}])
def test_resize_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResizeParams(**wrong)


# ── center_crop ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("height", "width", "top", "left"), [(10, 14, 3, 5), (9, 8, 2, 2), (4, 4, 0, 0)])
def test_the_middle_is_kept(height: int, width: int, top: int, left: int) -> None:
    original = image(height, width, 3)
    cropped = CENTER_CROP.build(CenterCropParams(size=4))(original)
    assert np.array_equal(cropped, original[top : top + 4, left : left + 4])
    assert not np.shares_memory(cropped, original)


def test_a_crop_larger_than_the_image_is_an_error() -> None:
    with pytest.raises(DataError, match=r"at most 8 for an image of 8×12 pixels. Got 9"):
        CENTER_CROP.build(CenterCropParams(size=9))(image(8, 12, 3))


# ── to_rgb ──────────────────────────────────────────────────────────────────────────────────────


def test_grey_is_repeated() -> None:
    grey = image(6, 5, 1)
    coloured = TO_RGB.build(ToRgbParams())(grey)
    assert coloured.shape == (6, 5, 3)
    assert (coloured == grey).all()


def test_colour_stays_as_it_is() -> None:
    original = image(6, 5, 3)
    assert np.array_equal(TO_RGB.build(ToRgbParams())(original), original)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, (100, 0, 255)), (0, (255, 255, 255)), (51, (224, 204, 255))]
)
def test_what_is_transparent_becomes_white(alpha: int, expected: tuple[int, ...]) -> None:
    pixel = np.array([[[100, 0, 255, alpha]]], np.uint8)
    assert tuple(TO_RGB.build(ToRgbParams())(pixel)[0, 0]) == expected


def test_other_numbers_of_channels_are_an_error() -> None:
    with pytest.raises(DataError, match="Got 5"):
        TO_RGB.build(ToRgbParams())(image(4, 4, 5))
