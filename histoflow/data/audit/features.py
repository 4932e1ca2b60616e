"""What is measured of each image while it is packed, for the audit to look at all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

THUMBNAIL = 24
_NEAR_WHITE, _UNSATURATED = 215, 25  # levels: the darkest channel of glass, and how far its channels differ
_PIXELS_AT_ONCE = 2**18  # what stays in a core's cache while a dozen measures are taken of it


def describe(images: Bytes) -> dict[str, NDArray[Any]]:
    """Measurements of N×H×W×C images, by name; each array has N entries, and none is NaN.

    ==============  ==========  ==============================================================================
    mean, std       N×C         of each channel, in levels
    low, high       N×C         the least and the greatest level of each channel
    background      N           share of pixels that are near white and without colour, as glass is
    sharpness       N           logarithm of the variance of the Laplacian of grey
    histogram       N×64        shares of 4×4×4 colours; of 64 levels, where there is one channel
    texture         N×14        shares of 10 local binary patterns, the same after right-angle turns; log
                                mean, log spread and log greatest of gradients, and their unevenness
    thumbnail       N×24×24     grey, averaged over areas
    ==============  ==========  ==============================================================================
    """
    parts = [_describe(part) for part in _slices(images)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _slices(images: Bytes) -> Iterator[Bytes]:
    step = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    for start in range(0, max(1, len(images)), step):
        yield images[start : start + step]


def _describe(images: Bytes) -> dict[str, NDArray[Any]]:
    planes = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    grey = _grey(planes)
    mean, std = _mean_and_std(planes)
    return {
        "mean": mean,
        "std": std,
        "low": planes.min(axis=(2, 3)).T,
        "high": planes.max(axis=(2, 3)).T,
        "background": _background(planes),
        "sharpness": _sharpness(grey),
        "histogram": _histogram(planes),
        "texture": _texture(grey),
        "thumbnail": _thumbnail(grey),
    }


def _grey(planes: Bytes) -> Bytes:
    if len(planes) != 3:
        first: Bytes = planes[0]
        return first
    weighted = planes[0] * np.uint16(77)
    weighted += planes[1] * np.uint16(150)
    weighted += planes[2] * np.uint16(29)
    weighted += 128
    grey: Bytes = (weighted >> 8).astype(np.uint8)
    return grey


def _mean_and_std(planes: Bytes) -> tuple[Floats, Floats]:
    """Exact: whole numbers are summed."""
    count = planes.shape[2] * planes.shape[3]
    flat = planes.reshape(*planes.shape[:2], count)
    whole = np.uint32 if count * 255**2 < 2**32 else np.uint64
    mean = flat.sum(axis=2, dtype=whole) / count
    square = np.multiply(flat, flat, dtype=np.uint16).sum(axis=2, dtype=whole) / count
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.T.astype(np.float32), std.T.astype(np.float32)


def _background(planes: Bytes) -> Floats:
    darkest = planes.min(axis=0)
    glass = (darkest >= _NEAR_WHITE) & (planes.max(axis=0) - darkest <= _UNSATURATED)
    share: Floats = glass.mean(axis=(1, 2), dtype=np.float32)
    return share


def _sharpness(grey: Bytes) -> Floats:
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.int16)
    laplacian = wide[:, 1:-1, 1:-1] * np.int16(-4)
    for neighbour in (wide[:, :-2, 1:-1], wide[:, 2:, 1:-1], wide[:, 1:-1, :-2], wide[:, 1:-1, 2:]):
        laplacian += neighbour
    values = laplacian.reshape(len(grey), grey.shape[1] * grey.shape[2]).astype(np.float32)
    variance = _mean_square(values) - values.mean(axis=1) ** 2
    sharpness: Floats = np.log1p(np.maximum(variance, 0))
    return sharpness


def _mean_square(values: Floats) -> Floats:
    square: Floats = np.einsum("np,np->n", values, values)
    return square / np.float32(max(1, values.shape[1]))


def _histogram(planes: Bytes) -> NDArray[np.float16]:
    if len(planes) == 3:
        codes = (planes[0] >> 6) * np.uint8(16) + (planes[1] >> 6) * np.uint8(4) + (planes[2] >> 6)
    else:
        codes = planes[0] >> 2
    return _shares(codes, 64).astype(np.float16)


def _shares(codes: Bytes, kinds: int) -> Floats:
    """How often each code below ``kinds`` occurs in each image."""
    flat = codes.reshape(len(codes), codes.shape[1] * codes.shape[2])
    counts = np.zeros((len(flat), kinds), np.float32)
    for row, image in zip(counts, flat, strict=True):
        row[:] = np.bincount(image, minlength=kinds)
    return counts / np.float32(flat.shape[1])


def _texture(grey: Bytes) -> NDArray[np.float16]:
    return np.hstack([_patterns(grey), _gradients(grey)]).astype(np.float16)


_AROUND = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))


def _patterns(grey: Bytes) -> Floats:
    """Shares of local binary patterns: which of the 8 neighbours are as bright as the pixel."""
    height, width = grey.shape[1:]
    wide = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    codes = np.zeros_like(grey)
    for row, column in _AROUND:
        brighter = wide[:, row : row + height, column : column + width] >= grey
        codes += codes
        codes |= brighter.view(np.uint8)
    return _shares(codes, 256) @ _uniform_patterns()


@cache
def _uniform_patterns() -> Floats:
    """256×10: to its count of ones belongs a pattern whose ones stand together, to the tenth all others."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    kinds = np.where(changes <= 2, bits.sum(axis=1), 9)
    return np.eye(10, dtype=np.float32)[kinds]


def _gradients(grey: Bytes) -> Floats:
    """Mean, spread and greatest of the steps between neighbours, and how uneven the two directions are."""
    signed = grey.astype(np.int16)
    down, across = (_steps(signed, axis) for axis in (1, 2))
    mean = [steps.mean(axis=1) for steps in (down, across)]
    return np.stack(
        [
            np.log1p(mean[0] + mean[1]),
            np.log1p(_mean_square(down) + _mean_square(across)) / 2,
            np.log1p(np.maximum(down.max(axis=1), across.max(axis=1))),
            np.abs(mean[0] - mean[1]) / (mean[0] + mean[1] + 1),
        ],
        axis=1,
    )


def _steps(grey: NDArray[np.int16], axis: int) -> Floats:
    """N×steps between neighbours along the axis; a single one of 0 where there is but one pixel along it."""
    if grey.shape[axis] == 1:
        return np.zeros((len(grey), 1), np.float32)
    steps = np.abs(np.diff(grey, axis=axis)).astype(np.float32)
    flat: Floats = steps.reshape(len(steps), steps.shape[1] * steps.shape[2])
    return flat


def _thumbnail(grey: Bytes) -> Bytes:
    down, across = _areas(grey.shape[1]), _areas(grey.shape[2])
    rows = grey.reshape(-1, grey.shape[2]).astype(np.float32) @ across.T
    small: Floats = down @ rows.reshape(len(grey), grey.shape[1], THUMBNAIL)
    thumbnail: Bytes = np.rint(small).astype(np.uint8)
    return thumbnail


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


def describe_file(path: Path) -> dict[str, float]:
    """What a file tells beside its pixels; NaN where it does not, or where it is damaged.

    ``bytes`` is its size, ``quality`` that of a JPEG (1 to 100), by its quantisation table.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            size = file.seek(0, 2)
    except OSError:  # whoever decodes it will say why
        return {"bytes": np.nan, "quality": np.nan}
    return {"bytes": float(size), "quality": _quality(header)}


def _quality(header: bytes) -> float:
    table = next((body[1:65] for body in _tables(header) if body[0] == 0 and len(body) >= 65), None)
    if table is None:
        return np.nan
    scale = float(100 * np.mean(np.frombuffer(table, np.uint8) / np.array(_ANNEX_K)))
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return float(np.clip(round(quality), 1, 100))


def _tables(header: bytes) -> Iterator[bytes]:
    """The quantisation tables of a JPEG's header; of another file none."""
    place = 2 if header[:2] == b"\xff\xd8" else len(header)
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
