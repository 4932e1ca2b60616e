"""What is measured of each image while it is packed, for the audit to look at all of them together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.planes import in_cache
from histoflow.data.moments import Moments, of_each

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

THUMBNAIL = 24


def describe(images: Bytes, moments: Moments | None = None) -> dict[str, NDArray[Any]]:
    """Measurements of N×H×W×C images, by name; each array has N entries, and none is NaN.

    ==============  ==========  ==============================================================================
    mean, std       N×C         of each channel, in levels
    thumbnail       N×24×24     grey, averaged over areas
    ==============  ==========  ==============================================================================

    ``moments`` are those of the images, where the caller has them already.
    """
    moments = moments or of_each(images)
    thumbnails = [_thumbnail(part) for part in in_cache(images)]
    return {
        **_mean_and_std(moments, images.shape[1] * images.shape[2]),
        "thumbnail": np.concatenate(thumbnails),
    }


def _mean_and_std(moments: Moments, pixels: int) -> dict[str, Floats]:
    mean, square = moments.totals / pixels, moments.squares / pixels
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}


# ── The thumbnail ───────────────────────────────────────────────────────────────────────────────

_GREY = (77 / 256, 150 / 256, 29 / 256)


def _thumbnail(images: Bytes) -> Bytes:
    count, height, width, channels = images.shape
    rows = images.reshape(count, height, width * channels)
    fold = _fold(height)
    left = height // fold
    folded = _folded(rows, fold).reshape(count * left, width * channels)
    narrow = (folded @ _across(width, channels)).reshape(count, left, THUMBNAIL)
    thumbnail: Bytes = np.rint(_areas(left) / np.float32(fold) @ narrow).astype(np.uint8)
    return thumbnail


def _folded(rows: Bytes, fold: int) -> Floats:
    if fold == 1:
        return rows.astype(np.float32)
    summed = rows[:, ::fold].astype(np.uint16)
    for start in range(1, fold):
        summed += rows[:, start::fold]
    return summed.astype(np.float32)


def _fold(side: int) -> int:
    """Rows that are added up first: where that leaves areas as they are, or nearly so."""
    if side % THUMBNAIL == 0:
        return side // THUMBNAIL
    return next((fold for fold in range(side // (2 * THUMBNAIL), 1, -1) if side % fold == 0), 1)


@cache
def _across(width: int, channels: int) -> Floats:
    """Levels of a row × 24: what each contributes to the grey of each stretch of it."""
    grey = _GREY if channels == 3 else (1.0, *[0.0] * (channels - 1))
    fold = _fold(width)
    areas = np.repeat(_areas(width // fold) / fold, fold, axis=1)
    weights = areas.T[:, None] * np.array(grey, np.float32)[:, None]
    return np.ascontiguousarray(weights.reshape(-1, THUMBNAIL), np.float32)


@cache
def _areas(side: int) -> Floats:
    """24×side: how much of each pixel lies in each of 24 equal stretches; the same from either end."""
    edges = np.linspace(0, side, THUMBNAIL + 1)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(overlap, 0) * (THUMBNAIL / side)
    return np.asarray((weights + weights[::-1, ::-1]) / 2, np.float32)


# ── Files ───────────────────────────────────────────────────────────────────────────────────────

_HEADER_BYTES = 2**16
_JPEG = b"\xff\xd8"
_NOT_JPEG = (".tif", ".tiff", ".png", ".bmp", ".webp")


def describe_file(path: Path) -> dict[str, float]:
    """What a file tells beside its pixels; NaN where it does not, or where it is damaged.

    ``bytes`` is its size, ``quality`` that of a JPEG (1 to 100), by its quantisation table. Of other files,
    which their names tell, no more than the size is looked at: opening one takes as long as reading it.
    """
    try:
        size = path.stat().st_size
        header = _header(path) if path.suffix.lower() not in _NOT_JPEG else b""
    except OSError:  # whoever decodes it will say why
        return {"bytes": np.nan, "quality": np.nan}
    return {"bytes": float(size), "quality": _quality(header)}


def _header(path: Path) -> bytes:
    """The beginning of a file, more of it where it is a JPEG."""
    descriptor = os.open(path, os.O_RDONLY)  # without what a file object costs
    try:
        header = os.read(descriptor, len(_JPEG))
        return header + os.read(descriptor, _HEADER_BYTES) if header == _JPEG else header
    finally:
        os.close(descriptor)


def _quality(header: bytes) -> float:
    table = next((body[1:65] for body in _tables(header) if body[0] == 0 and len(body) >= 65), None)
    if table is None:
        return np.nan
    scale = float(100 * np.mean(np.frombuffer(table, np.uint8) / np.array(_ANNEX_K)))
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return float(np.clip(round(quality), 1, 100))


def _tables(header: bytes) -> Iterator[bytes]:
    """The quantisation tables of a JPEG's header; of another file none."""
    place = 2 if header[:2] == _JPEG else len(header)
    while place + 4 <= len(header) and header[place] == 0xFF and header[place + 1] != 0xDA:
        marker, length = header[place + 1], int.from_bytes(header[place + 2 : place + 4])
        if marker == 0xDB:
            body = header[place + 4 : place + 2 + length]
            while body:
                wide = 1 + 64 * (1 + (body[0] >> 4))
                yield body[:wide]
                body = body[wide:]
        place += 2 + max(2, length)


# The luminance table of the JPEG standard (annex K, K.1), in zigzag order: quality 50.
_ANNEX_K = (
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40),
    *(26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
    *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87),
    *(95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)  # fmt: skip
