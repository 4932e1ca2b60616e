"""Randomness without state: a seed for every place in a run, computed from the place alone.

A generator that is carried along must be saved and restored to resume a run. A seed that
follows from (seed, epoch, step) needs neither: step 4,711 is the same step however one came there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum
from functools import reduce

_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """What a seed is for: chance of one kind must not follow from chance of another."""

    INITIAL_WEIGHTS = 0
    ORDER = 1
    AUGMENT = 2
    STEP = 3
    SHARE = 4
    RESAMPLES = 5
    SHIFTS = 6


def derive(seed: int, *place: int) -> int:
    """A 63-bit seed for this place; neighbouring places get unrelated seeds (SplitMix64 steps)."""
    return _scramble(reduce(_further, place, seed & _MASK)) >> 1


def series(seed: int, *place: int) -> Callable[[int], int]:
    """The seeds of the places that begin like this one and end in a number, sooner than ``derive``."""
    state = reduce(_further, place, seed & _MASK)
    return lambda number: _scramble(_further(state, number)) >> 1


def _further(state: int, number: int) -> int:
    return _scramble((state ^ _scramble(number & _MASK)) & _MASK)


def fraction(salt: int, text: str) -> float:
    """A number in [0, 1) that depends on the salt and the text alone, on every machine alike."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, salt=(salt & _MASK).to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little") / 2**64


def _scramble(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
