"""The plainest of TIFF files, read without Pillow: eight bits a channel, grey or RGB, not compressed.

Pillow takes most of its time for such a small file to look at what this file does not have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_MOST_PIXELS = 2**26
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


def read_plain(content: bytes) -> NDArray[np.uint8] | None:
    """The first page as H×W×3; None where the file is anything but plain, or damaged: then ask Pillow."""
    order = _ORDERS.get(content[:4])
    if order is None:
        return None
    try:
        entries = _entries(content, order)
    except struct.error:  # it points outside the file
        return None
    return None if entries is None or not _is_plain(entries) else _pixels(content, entries)


def _entries(content: bytes, order: str) -> Entries | None:
    """What stands in the first directory, of what concerns pixels."""
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    found: dict[int, tuple[int, ...]] = {}
    listed = content[place + 2 : place + 2 + 12 * count]
    for tag, kind, length, value in struct.iter_unpack(f"{order}HHI4s", listed):
        if tag in _NOTHING_TO_PIXELS:
            continue
        if tag in found or kind not in _LETTERS or not (tag in _READ or tag in _MUST_BE):
            return None
        form, inline = f"{order}{length}{_LETTERS[kind]}", length * _BYTES[kind] <= len(value)
        place = 0 if inline else struct.unpack(f"{order}I", value)[0]
        found[tag] = struct.unpack_from(form, value if inline else content, place)
    return found if 12 * count == len(listed) else None


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


def _pixels(content: bytes, entries: Entries) -> NDArray[np.uint8] | None:
    import numpy as np

    width, height, channels = entries[_WIDTH][0], entries[_HEIGHT][0], entries.get(_CHANNELS, (1,))[0]
    lengths = list(_lengths(entries.get(_ROWS, (height,)), width * channels, height))
    if not _fit(entries, lengths, len(content)):
        return None
    strips = zip(entries[_OFFSETS], lengths, strict=True)
    found = bytearray().join(content[offset : offset + length] for offset, length in strips)
    pixels = np.frombuffer(found, np.uint8).reshape(height, width, channels)
    return pixels.repeat(3, axis=2) if channels == 1 else pixels


def _lengths(rows: tuple[int, ...], row_bytes: int, height: int) -> Iterator[int]:
    """How many bytes each strip must have; none where the file does not say how many rows one has."""
    if len(rows) == 1 and rows[0]:
        for start in range(0, height, rows[0]):
            yield min(rows[0], height - start) * row_bytes


def _fit(entries: Entries, lengths: list[int], size: int) -> bool:
    """Whether the strips are those that the image must have, and all of them lie in the file."""
    offsets = entries[_OFFSETS]
    return (
        len(offsets) == len(lengths)
        and list(entries.get(_LENGTHS, lengths)) == lengths
        and all(offset + length <= size for offset, length in zip(offsets, lengths, strict=True))
    )
