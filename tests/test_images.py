"""Decoding: every format and mode comes out as upright RGB, and damage is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histoflow import DataError, UnreadableImage
from histoflow.images import read_rgb

RED, WHITE = [200, 30, 60], [255, 255, 255]


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_rgb(path)
    return str(caught.value)


def patch(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", (12, 8), tuple(RED)).convert(mode)


def noise(side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.tif", "a.TIFF", "a.bmp", "a.webp"])
def test_every_format(tmp_path: Path, name: str) -> None:
    image = read_rgb(saved(tmp_path / name, patch()))
    assert image.shape == (8, 12, 3)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - RED).max() <= 6


@pytest.mark.parametrize(
    ("mode", "name", "expected"),
    [
        ("L", "a.png", [84] * 3),
        ("1", "a.tif", None),
        ("P", "a.png", None),
        ("LA", "a.png", [84] * 3),
        ("RGBA", "a.png", RED),
        ("CMYK", "a.tif", RED),
        ("CMYK", "a.jpg", RED),
        ("YCbCr", "a.jpg", RED),
    ],
)
def test_every_mode(tmp_path: Path, mode: str, name: str, expected: list[int] | None) -> None:
    original = patch(mode)
    image = read_rgb(saved(tmp_path / name, original))
    wanted = expected or np.asarray(original.convert("RGB"))
    assert np.abs(image.astype(int) - wanted).max() <= 6


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = patch("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    pixels = read_rgb(saved(tmp_path / "a.png", image))
    assert pixels[0, 0].tolist() == WHITE
    assert pixels[1, 1].tolist() == RED


def test_transparent_entries_of_a_palette_are_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4))
    image.putpalette([*RED, 0, 0, 0])
    image.putpixel((0, 0), 1)
    pixels = read_rgb(saved(tmp_path / "a.png", image, transparency=b"\xff\x00"))
    assert pixels[0, 0].tolist() == WHITE
    assert pixels[1, 1].tolist() == RED


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_of_grey_become_8(tmp_path: Path, name: str, order: str) -> None:
    levels = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    pixels = read_rgb(saved(tmp_path / name, Image.fromarray(levels.astype(order))))
    assert pixels[0].tolist() == [[level] * 3 for level in (0, 1, 128, 255)]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bits_have_no_known_range(tmp_path: Path, kind: type) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.ones((4, 4), kind)))
    assert "32-bit pixels have no known range" in reason(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_the_orientation_is_applied(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: rotate by 90° to see it upright
    sideways = Image.new("RGB", (32, 16), tuple(RED))
    sideways.paste((0, 0, 0), (0, 0, 32, 8))
    options = {"tiffinfo": exif} if name == "a.tif" else {"exif": exif}
    pixels = read_rgb(saved(tmp_path / name, sideways, **options)).astype(int)
    assert pixels.shape == (32, 16, 3)
    assert np.abs(pixels[16, 2] - RED).max() < 12
    assert pixels[16, 13].max() < 12


def test_the_first_page_of_several_counts(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", patch(), save_all=True, append_images=[noise()])
    assert read_rgb(path).shape == (8, 12, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.bmp", "a.webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_unreadable(tmp_path: Path, name: str, share: float) -> None:
    path = saved(tmp_path / name, noise())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert reason(path)


def test_a_damaged_png_is_unreadable(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", noise())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "cannot be decoded" in reason(path)


@pytest.mark.parametrize(("content", "expected"), [(b"", "it is empty"), (b"<html>", "no JPEG, PNG, TIFF")])
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert expected in reason(path)


def test_other_formats_are_not_tried(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gif", patch())
    assert "it is no JPEG" in reason(path.rename(tmp_path / "a.png"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(10_000, 9_000), (20_000, 10_000)])
def test_a_bomb_is_not_unpacked(tmp_path: Path, width: int, height: int) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (width, height)))
    assert "pixels" in reason(path)


def test_a_file_that_vanished_is_no_damaged_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*a\.png: No such file") as caught:
        read_rgb(tmp_path / "a.png")
    assert not isinstance(caught.value, UnreadableImage)
