"""The plainest of TIFF files, read without Pillow: eight bits a channel, grey or RGB, not compressed.

Pillow takes most of its time for such a small file to look at what this file does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_PIXELS = 2**26
_MOST_ELSEWHERE = 2**16  # bytes, of what a directory points to: thousands of strips
_PLACE = {order: struct.Struct(f"{order}I") for order in _ORDERS.values()}
_COUNT = {order: struct.Struct(f"{order}H") for order in _ORDERS.values()}
_LETTERS, _BYTES = {3: "H", 4: "I"}, {3: 2, 4: 4}  # kinds of number: short and long
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _OFFSETS = 256, 257, 258, 259, 262, 273
_CHANNELS, _ROWS, _LENGTHS = 277, 278, 279
_READ = frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _OFFSETS, _CHANNELS, _ROWS, _LENGTHS))
_MUST_BE = {254: 0, 274: 1, 284: 1, 339: 1}
"""Kind of page, orientation, planes and kind of number, where they are stated: as if they were not."""
_NOTHING_TO_PIXELS = frozenset((269, 270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432))
"""Names, dates, software and resolution."""

_COLOURS_OF: Mapping[tuple[int, ...], int] = {(1,): 1, (3,): 2}
"""By the number of channels: black is 0, or RGB."""

Entries = Mapping[int, tuple[int, ...]]


class _Layout(NamedTuple):
    """Where the pixels of a file lie."""

    shape: tuple[int, int, int]
    strips: tuple[slice, ...]
    end: int
    """How long the file must be."""


def read_plain(content: bytes) -> NDArray[np.uint8] | None:
    """The first page as H×W×3; None where the file is anything but plain, or damaged: then ask Pillow."""
    order = _ORDERS.get(content[:4])
    if order is None:
        return None
    try:
        layout = _found(content, order)
    except struct.error:  # it points outside the file
        return None
    return None if layout is None or layout.end > len(content) else _pixels(content, layout)


def _found(content: bytes, order: str) -> _Layout | None:
    (place,) = _PLACE[order].unpack_from(content, 4)
    (count,) = _COUNT[order].unpack_from(content, place)
    directory = content[place + 2 : place + 2 + 12 * count]
    listed = _listed(directory, order) if len(directory) == 12 * count else None
    if listed is None or sum(length for _, length in listed.elsewhere) > _MOST_ELSEWHERE:
        return None
    elsewhere = [_slice(content, start, length) for start, length in listed.elsewhere]
    return _layout(directory, order, b"".join(elsewhere))


def _slice(content: bytes, start: int, length: int) -> bytes:
    if start + length > len(content):
        raise struct.error
    return content[start : start + length]


# Files of one data set begin alike. What is worked out of the same bytes is kept, which saves half the time.


class _Listed(NamedTuple):
    """What stands in a directory, of what concerns pixels."""

    entries: tuple[tuple[int, str, bytes], ...]
    """Tag, form, and the value where it stands there itself."""
    elsewhere: tuple[tuple[int, int], ...]
    """Of those whose value stands elsewhere in the file, the place and the number of bytes."""


@lru_cache(maxsize=16)
def _listed(directory: bytes, order: str) -> _Listed | None:
    entries, elsewhere, tags = [], [], set()
    for tag, kind, length, value in struct.iter_unpack(f"{order}HHI4s", directory):
        if tag in _NOTHING_TO_PIXELS:
            continue
        if tag in tags or kind not in _LETTERS or not (tag in _READ or tag in _MUST_BE):
            return None
        inline = length * _BYTES[kind] <= len(value)
        if not inline:
            elsewhere.append((_PLACE[order].unpack(value)[0], length * _BYTES[kind]))
        tags.add(tag)
        entries.append((tag, f"{order}{length}{_LETTERS[kind]}", value if inline else b""))
    return _Listed(tuple(entries), tuple(elsewhere))


@lru_cache(maxsize=16)
def _layout(directory: bytes, order: str, elsewhere: bytes) -> _Layout | None:
    listed = _listed(directory, order)
    assert listed is not None
    entries, place = {}, 0
    for tag, form, value in listed.entries:
        entries[tag] = struct.unpack_from(form, value or elsewhere, 0 if value else place)
        place += 0 if value else struct.calcsize(form)
    return _laid(entries) if _is_plain(entries) else None


def _is_plain(entries: Entries) -> bool:
    channels = entries.get(_CHANNELS, (1,))
    colours = _COLOURS_OF.get(channels)
    return (
        {_WIDTH, _HEIGHT, _COLOURS, _OFFSETS} <= entries.keys()
        and colours is not None
        and entries[_COLOURS] == (colours,)
        and entries.get(_BITS) == (8,) * channels[0]
        and entries.get(_COMPRESSION, (1,)) == (1,)
        and all(set(entries.get(tag, (value,))) == {value} for tag, value in _MUST_BE.items())
        and len(entries[_WIDTH]) == len(entries[_HEIGHT]) == 1
        and 0 < entries[_WIDTH][0] * entries[_HEIGHT][0] <= _MOST_PIXELS
    )


def _laid(entries: Entries) -> _Layout | None:
    """None where the strips are not those that the image must have."""
    width, height, channels = entries[_WIDTH][0], entries[_HEIGHT][0], entries.get(_CHANNELS, (1,))[0]
    offsets = entries[_OFFSETS]
    lengths = list(_lengths(entries.get(_ROWS, (height,)), width * channels, height))
    if len(offsets) != len(lengths) or list(entries.get(_LENGTHS, lengths)) != lengths:
        return None
    strips = [slice(offset, offset + length) for offset, length in zip(offsets, lengths, strict=True)]
    return _Layout((height, width, channels), tuple(strips), max(strip.stop for strip in strips))


def _lengths(rows: tuple[int, ...], row_bytes: int, height: int) -> Iterator[int]:
    """How many bytes each strip must have; none where the file does not say how many rows one has."""
    if len(rows) == 1 and rows[0]:
        for start in range(0, height, rows[0]):
            yield min(rows[0], height - start) * row_bytes


def _pixels(content: bytes, layout: _Layout) -> NDArray[np.uint8]:
    import numpy as np

    whole = memoryview(content)
    found = bytearray().join([whole[strip] for strip in layout.strips])
    pixels = np.frombuffer(found, np.uint8).reshape(layout.shape)
    return pixels.repeat(3, axis=2) if layout.shape[2] == 1 else pixels
