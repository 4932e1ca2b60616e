"""What is measured of images is right, finite for every image there can be, and the same however it is turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from histoflow.data.audit.closer import CloseLook, background, look_closer
from histoflow.data.audit.features import describe, describe_file

TURN_WITH_THE_IMAGE = {"thumbnail"}


def all_of(images: np.ndarray) -> dict[str, np.ndarray]:
    """What is measured while packing, and what where a probe looks."""
    return describe(images) | look_closer(images)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@settings(max_examples=30)
@given(
    count=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 2, 3, 4]),
    level=st.sampled_from([None, 0, 255]),
)
def test_measurements_are_finite_for_images_of_every_shape(count, height, width, channels, level):
    shape = (count, height, width, channels)
    images = noise(*shape) if level is None else np.full(shape, level, np.uint8)
    for name, values in all_of(images).items():
        assert len(values) == count, name
        assert np.isfinite(values.astype(np.float64)).all(), name


def test_no_images_have_no_measurements():
    assert {len(values) for values in all_of(noise(2, 8, 8, 3)[:0]).values()} == {0}


def test_a_large_image_takes_few_bytes_of_measurements():
    found = all_of(noise(1, 512, 512, 3))
    assert sum(values.nbytes for values in found.values()) < 800


def test_means_and_spreads_are_those_of_numpy():
    images = noise(5, 33, 21, 3)
    found = describe(images)
    np.testing.assert_allclose(found["mean"], images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["std"], images.std(axis=(1, 2)), rtol=1e-5)


def test_an_image_is_measured_the_same_alone_as_in_a_block_of_hundreds():
    images = noise(300, 64, 64, 3)
    together = all_of(images)
    for name, values in all_of(images[277:278]).items():
        assert np.array_equal(values[0], together[name][277]), name


@pytest.mark.parametrize(
    "turn", [lambda i: np.rot90(i, axes=(1, 2)), lambda i: i[:, ::-1], lambda i: i.swapaxes(1, 2)]
)
def test_turning_an_image_changes_only_its_thumbnail(turn):
    images = noise(4, 48, 48, 3)
    found, after = all_of(images), all_of(turn(images))
    for name in found.keys() - TURN_WITH_THE_IMAGE:
        np.testing.assert_allclose(
            after[name].astype(float), found[name].astype(float), rtol=1e-3, err_msg=name
        )
    difference = after["thumbnail"].astype(int) - turn(found["thumbnail"]).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(96, 96), (65, 65), (97, 131), (20, 300), (224, 64)])
@pytest.mark.parametrize("turn", [lambda i: np.rot90(i, axes=(1, 2)), lambda i: i[:, ::-1]])
def test_large_images_are_looked_at_in_the_same_places_however_they_are_turned(shape, turn):
    images = noise(2, *shape, 3)
    found, after = all_of(images), all_of(turn(images))
    for name in ("mean", "std", "background", "histogram"):
        assert np.array_equal(after[name], found[name]), name  # turned copies are known by these
    for name in ("sharpness", "texture"):
        np.testing.assert_allclose(after[name].astype(float), found[name].astype(float), rtol=2e-3)
    assert np.abs(after["thumbnail"].astype(int) - turn(found["thumbnail"]).astype(int)).max() <= 1


@pytest.mark.parametrize("side", [96, 97, 224])
def test_a_speck_is_seen_wherever_it_lies_in_a_large_image(side):
    for row, column in np.random.default_rng(0).integers(0, side - 8, (20, 2)):
        image = np.full((1, side, side, 3), 240, np.uint8)
        image[0, row : row + 8, column : column + 8] = (120, 40, 120)
        assert 0.99 < background(image)[0] < 0.999


def test_glass_is_background_and_tissue_is_not():
    images = np.full((2, 10, 10, 3), 240, np.uint8)
    images[1, :3] = (180, 90, 160)
    np.testing.assert_allclose(background(images), [1, 0.7], rtol=1e-6)


def test_a_blurred_image_is_less_sharp():
    sharp = noise(1, 32, 32, 3)
    blurred = (sharp[:, 1:] // 2 + sharp[:, :-1] // 2)[:, :31]
    assert look_closer(blurred)["sharpness"] < look_closer(sharp)["sharpness"]


def test_a_histogram_holds_the_share_of_each_colour():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 0] = (255, 0, 128)
    histogram = look_closer(image)["histogram"][0]
    assert histogram[0] == 0.75
    assert histogram[16 * 3 + 2] == 0.25


def test_a_closer_look_reads_each_image_once_and_tells_of_it_wherever_it_is_asked_for():
    images, read = noise(40, 12, 12, 3), []
    closer = CloseLook(lambda places: images[read.extend(places.tolist()) or places])
    for places in ([7, 3, 3, 39], [], [3, 0, 7], list(range(40))):
        found, expected = closer(np.array(places, np.int64)), look_closer(images[places])
        for name, values in expected.items():
            assert np.array_equal(found[name], values), name
    assert sorted(read) == list(range(40))


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_header(quality: int, tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(24, 24, 3)).save(path, quality=quality)
    found = describe_file(path)
    assert abs(found["quality"] - quality) <= 1
    assert found["bytes"] == path.stat().st_size


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xdb\x00", b"\xff\xd8\xff\xdb\x00\x01\x00", b"PNG" * 9]
)
def test_damaged_and_other_files_have_no_quality(content: bytes, tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    found = describe_file(path)
    assert np.isnan(found["quality"])
    assert found["bytes"] == len(content)


def test_a_jpeg_cut_short_anywhere_is_no_error(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(16, 16, 3)).save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert describe_file(path).keys() == {"bytes", "quality"}


def test_a_file_that_is_gone_is_no_error(tmp_path: Path):
    assert all(np.isnan(value) for value in describe_file(tmp_path / "gone.png").values())
