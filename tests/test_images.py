"""Decoding: every format and mode comes out as upright RGB, and damage is told."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from histoflow import DataError, UnreadableImage
from histoflow.images import read_rgb
from histoflow.tiff import read_plain
from permissions import permissions_hold

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


def test_a_name_that_no_file_can_have_is_an_image_that_cannot_be_read() -> None:
    assert reason(Path("a\0.png")) == "no file can have its name: embedded null byte"


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
    levels = np.array([[0, 256, 511, 32896, 65535]], dtype=np.uint16)
    pixels = read_rgb(saved(tmp_path / name, Image.fromarray(levels.astype(order))))
    assert pixels[0].tolist() == [[level] * 3 for level in (0, 1, 1, 128, 255)]


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


@pytest.mark.parametrize(("width", "height"), [(10_000, 9_000), (20_000, 10_000)])
def test_a_bomb_is_not_unpacked_and_told_in_one_way(
    tmp_path: Path, width: int, height: int, recwarn: pytest.WarningsRecorder
) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (width, height)))
    assert reason(path) == "it has more than 89,478,485 pixels: cut it into patches"
    assert not recwarn.list


def test_reading_many_images_leaves_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", patch())
    read_rgb(path)
    before = list(warnings.filters)
    read_rgb(path)
    assert warnings.filters == before


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_of_colour_become_8(tmp_path: Path, name: str, order: str) -> None:
    levels = np.array([[[0, 257, 32896], [65535, 512, 255]]], np.uint16)
    path = tmp_path / name
    path.write_bytes(png_of_16_bits(levels) if name == "a.png" else tiff_of_16_bits(levels.astype(order)))
    assert read_rgb(path).tolist() == [[[0, 1, 128], [255, 2, 0]]]


def png_of_16_bits(levels: Any) -> bytes:
    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    body = part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of_16_bits(levels: Any) -> bytes:
    height, width, _ = levels.shape
    order = ">" if levels.dtype.byteorder == ">" else "<"
    return tiff(order, levels.tobytes(), width, height, {258: (16, 16, 16)})


@pytest.mark.parametrize("turned", [1, 6])
def test_16_bits_in_which_white_is_0_become_no_negative(tmp_path: Path, turned: int) -> None:
    levels = np.array([[0, 256, 511, 32896, 65535]], "<u2")
    path = tmp_path / "a.tif"
    path.write_bytes(tiff("<", levels.tobytes(), 5, 1, {258: 16, 262: 0, 277: 1, 274: turned}))
    assert read_rgb(path)[..., 0].ravel().tolist() == [255, 254, 254, 127, 0]


def test_12_bits_of_grey_become_8(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff("<", bytes.fromhex("000fff800010"), 4, 1, {258: 12, 262: 1, 277: 1}))
    assert read_rgb(path)[0, :, 0].tolist() == [0, 255, 128, 1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_bytes_are_read_and_other_planes_are_refused(tmp_path: Path, order: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(order, bytes([1, 2, 3]), 1, 1, planes(1)))
    assert read_rgb(path).tolist() == [[[1, 2, 3]]]
    path.write_bytes(tiff(order, bytes(6), 1, 1, planes(2) | {258: (16, 16, 16)}))
    assert "not compressed and not as plain bytes, which cannot be read" in reason(path)
    path.write_bytes(tiff(order, bytes([1]), 1, 1, {258: 8, 262: 0, 277: 1, 284: 2}))
    assert "not compressed and not as plain bytes, which cannot be read" in reason(path)


def planes(length: int) -> dict[int, Any]:
    """What a file of one pixel says whose channels lie one after the other, each of so many bytes."""
    return {284: 2, 273: (8, 8 + length, 8 + 2 * length), 279: (length,) * 3}


def test_a_kind_of_tiff_that_is_not_known_is_told_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(">", bytes(2), 1, 1, {258: 16, 262: 0, 277: 1}))
    assert reason(path).startswith("it is a damaged TIFF file or one of a rare kind")


def test_damage_is_told_by_its_reason_alone(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff("<", bytes(3), 1, 1, {256: (1, 2), 266: (1, 2)})[:-3])
    assert reason(path)
    assert not recwarn.list


def test_a_file_that_vanished_is_no_damaged_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*a\.png: No such file") as caught:
        read_rgb(tmp_path / "a.png")
    assert not isinstance(caught.value, UnreadableImage)


def test_a_folder_in_place_of_a_file_is_no_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(DataError, match=r"Cannot read .*a\.png: Is a directory") as caught:
        read_rgb(tmp_path / "a.png")
    assert not isinstance(caught.value, UnreadableImage)


def test_links_in_a_loop_are_no_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"Cannot read .*a\.png: Too many levels of symbolic links"):
        read_rgb(tmp_path / "a.png")


def test_a_file_that_may_not_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", patch())
    path.chmod(0)
    with (
        permissions_hold(),
        pytest.raises(DataError, match=r"Cannot read .*a\.png: Permission denied.*chmod u\+r") as caught,
    ):
        read_rgb(path)
    assert not isinstance(caught.value, UnreadableImage)


# ── Plain TIFF files, which are read without Pillow ─────────────────────────────────────────────


def by_pillow(content: bytes) -> Any:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def written(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def tiff(order: str, pixels: bytes, width: int, height: int, changed: dict[int, Any] | None = None) -> bytes:
    """An RGB file made by hand; ``changed`` gives other values to tags, or none where a tag shall lack."""
    tags: dict[int, Any] = {
        256: width,
        257: height,
        258: (8, 8, 8),
        259: 1,
        262: 2,
        273: 8,
        277: 3,
        278: height,
        279: len(pixels),
        284: 1,
    }
    tags |= changed or {}
    listed = {tag: value for tag, value in sorted(tags.items()) if value is not None}
    start = 8 + len(pixels)
    beyond = start + 2 + 12 * len(listed) + 4
    entries, more = b"", b""
    for tag, value in listed.items():
        values = value if isinstance(value, tuple) else (value,)
        kind, letter = (4, "I") if max(values, default=0) > 65535 else (3, "H")
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        place = struct.pack(f"{order}I", beyond + len(more))
        inline = len(body) <= 4
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + (
            body.ljust(4, b"\0") if inline else place
        )
        more += b"" if inline else body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + pixels + struct.pack(f"{order}H", len(listed)) + entries + bytes(4) + more


PIXELS = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("strip", [None, 5 * 3, 5 * 3 * 4])
def test_plain_files_are_read_as_pillow_reads_them(
    mode: str, strip: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if strip:
        monkeypatch.setattr(TiffImagePlugin, "STRIP_SIZE", strip)
    content = written(Image.fromarray(PIXELS).convert(mode), description="a tile of slide 7", dpi=(300, 300))
    pixels = read_plain(content)
    assert pixels is not None
    assert np.array_equal(pixels, by_pillow(content))
    pixels[0, 0] = 0  # nothing holds it fast


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_plain_file_made_by_hand_is_read(order: str) -> None:
    pixels = read_plain(tiff(order, PIXELS.tobytes(), 5, 6))
    assert pixels is not None
    assert np.array_equal(pixels, PIXELS)


NOT_PLAIN = {
    "compressed": {259: 5},
    "16 bits": {258: (16, 16, 16)},
    "one count of bits": {258: 8},
    "planes": {284: 2},
    "turned": {274: 6},
    "four channels": {277: 4, 258: (8, 8, 8, 8), 338: 2},
    "not RGB": {262: 6},
    "floats": {339: (3, 3, 3)},
    "tiles": {322: 16, 323: 16},
    "bits from the other end": {266: 2},
    "metadata that may turn it": {700: 1},
    "no width": {256: None},
    "no strips": {273: None},
    "an offset beyond the file": {273: 2**31},
    "an offset that just does not fit": {273: 9 + 12 * 11 + 20},
    "too few strips": {278: 2},
    "too many strips": {273: (8, 8)},
    "strips of no rows": {278: 0},
    "strips shorter than they must be": {279: 3},
    "no pixels": {256: 0},
    "a huge image": {256: 2**31, 257: 2**31},
    "two widths": {256: (5, 5)},
    "a list of no strips": {273: ()},
}


@pytest.mark.parametrize("name", NOT_PLAIN)
@pytest.mark.parametrize("order", ["<", ">"])
def test_anything_else_is_left_to_pillow(name: str, order: str) -> None:
    assert read_plain(tiff(order, PIXELS.tobytes(), 5, 6, NOT_PLAIN[name])) is None


def test_a_file_whose_directory_is_elsewhere_or_endless_is_left_to_pillow() -> None:
    content = tiff("<", PIXELS.tobytes(), 5, 6)
    for place in (0, 4, len(content) - 1, len(content), 2**32 - 1):
        assert read_plain(content[:4] + struct.pack("<I", place) + content[8:]) is None
    assert read_plain(b"") is read_plain(b"II*\0") is read_plain(b"II*\0\x08") is None


def test_a_directory_that_names_itself_as_the_next_is_read_once() -> None:
    content = bytearray(tiff("<", PIXELS.tobytes(), 5, 6))
    (start,) = struct.unpack_from("<I", content, 4)
    struct.pack_into("<I", content, start + 2 + 12 * 10, start)
    pixels = read_plain(bytes(content))
    assert pixels is not None
    assert np.array_equal(pixels, PIXELS)


WHOLE = (
    written(Image.fromarray(PIXELS)),
    tiff(">", PIXELS.tobytes(), 5, 6, {273: (8, 53), 278: 3, 279: (45, 45)}),
)


@pytest.mark.filterwarnings("ignore")
@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_whatever_is_read_without_pillow_is_what_pillow_reads(
    whole: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    pixels = read_plain(bytes(content))
    if pixels is not None:
        assert np.array_equal(pixels, by_pillow(bytes(content)))


def test_a_grey_or_palette_image_with_transparency_in_a_tiff_is_read(tmp_path: Path) -> None:
    for mode in ("LA", "RGBA", "P", "1", "CMYK"):
        path = saved(tmp_path / f"{mode}.tif", patch(mode))
        assert read_plain(path.read_bytes()) is None
        assert read_rgb(path).shape == (8, 12, 3)
