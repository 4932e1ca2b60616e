"""Permissions that hold also where the tests are run by root, to whom they do not apply."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION, _THIS_THREAD = 0x20080522, 0
_OVERRIDES = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, see ``man capabilities``."""
_SETS = struct.Struct("6I")
"""Of lower and of upper capabilities: in effect, permitted, inherited."""


@contextmanager
def permissions_hold() -> Iterator[None]:
    """Lay down root's right to read and write what permissions forbid, in this thread."""
    if os.geteuid() != 0:
        yield
        return
    before = _asked("capget", bytes(_SETS.size))
    effective, *others = _SETS.unpack(before)
    _asked("capset", _SETS.pack(effective & ~_OVERRIDES, *others))
    try:
        yield
    finally:
        _asked("capset", before)


def _asked(call: str, sets: bytes) -> bytes:
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, _THIS_THREAD))
    told = ctypes.create_string_buffer(sets, _SETS.size)
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(header, told):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), call)
    return told.raw
