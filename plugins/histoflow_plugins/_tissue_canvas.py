"""How ``tissue`` paints: scenes in micrometres, as amounts of two dyes, seen through a stained slide.

All lengths are micrometres, so that a patch shows the same field of view at any number of pixels.
All chance is drawn as plain uniform numbers, and arithmetic is in double precision, so that other
machines and numpy versions have little to disagree on before the values are rounded to bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

Field = NDArray[np.float64]
"""Values per pixel, or per cell."""

Places = tuple[Field, Field]
"""Where things lie, x and y in micrometres."""

FIELD = 100.0
"""The side of every patch in micrometres, about that of the patches in PathMNIST and PCam."""


class Dice:
    """A stream of uniform numbers that follows from its seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def draw(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._rng.random())

    def draws(self, low: float, high: float, *shape: int) -> Field:
        return low + (high - low) * self._rng.random(shape)

    def happens(self, probability: float) -> bool:
        return self.draw(0, 1) < probability

    def choose(self, options: Sequence[T]) -> T:
        return options[int(self.draw(0, len(options)))]


class Canvas(Dice):
    """The place to paint on: where its pixels lie, and the chance of all that is painted."""

    def __init__(self, size: int, seed: int) -> None:
        super().__init__(seed)
        self.size = size
        self.pixel = FIELD / size
        centres = (np.arange(size) + 0.5) * self.pixel
        self.x, self.y = np.meshgrid(centres, centres)

    def noise(self, grain: float) -> Field:
        """Smooth noise of about zero mean and unit spread, with features of ``grain`` micrometres."""
        knots = int(FIELD / grain) + 4
        weights = _spline(self.size, knots)
        return 3.6 * (weights @ self.draws(-1, 1, knots, knots) @ weights.T)

    def at(self, field: Field, x: Field, y: Field) -> Field:
        """The field's values at these places; beyond the border, those at the border."""
        columns = np.clip(x / self.pixel, 0, self.size - 1).astype(np.intp)
        rows = np.clip(y / self.pixel, 0, self.size - 1).astype(np.intp)
        return field[rows, columns]


@lru_cache(maxsize=64)
def _spline(size: int, knots: int) -> Field:
    """Weights (size × knots) of a cubic B-spline, averaged over each pixel's width."""
    steps = 4
    place = (np.arange(size * steps) + 0.5) / (size * steps) * (knots - 3)
    first = np.minimum(place.astype(np.intp), knots - 4)
    t = place - first
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    weights = np.zeros((size * steps, knots))
    for offset, part in enumerate(parts):
        weights[np.arange(size * steps), first + offset] = part / 6
    averaged: Field = weights.reshape(size, steps, knots).mean(axis=1)
    return averaged


# ── Cells ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cells:
    """Nuclei, or other small bodies: ellipses with ragged outlines and grainy insides."""

    x: Field
    y: Field
    length: Field
    width: Field
    angle: Field
    density: Field
    """How much haematoxylin they hold."""
    ragged: float = 0.1
    hollow: float = 0.0
    """How much paler the middle is than the rim."""
    clumped: float = 0.2
    """The contrast of the chromatin."""

    def only(self, keep: NDArray[np.bool_]) -> Cells:
        arrays = ("x", "y", "length", "width", "angle", "density")
        return replace(self, **{name: getattr(self, name)[keep] for name in arrays})


def scatter(canvas: Canvas, pitch: float, disorder: float = 0.35) -> Places:
    """Places about ``pitch`` micrometres apart, a little beyond the borders too."""
    steps = np.arange(-int(80 / pitch) - 1, int(80 / pitch) + 2)
    column, row = (part.ravel().astype(float) for part in np.meshgrid(steps, steps))
    column += (row % 2) / 2 + canvas.draws(-disorder, disorder, len(row)) + canvas.draw(0, 1)
    row = 0.87 * row + canvas.draws(-disorder, disorder, len(row)) + canvas.draw(0, 1)
    turn = canvas.draw(0, pi)
    x = FIELD / 2 + pitch * (column * np.cos(turn) - row * np.sin(turn))
    y = FIELD / 2 + pitch * (column * np.sin(turn) + row * np.cos(turn))
    inside = (np.abs(x - FIELD / 2) < FIELD / 2 + 8) & (np.abs(y - FIELD / 2) < FIELD / 2 + 8)
    return x[inside], y[inside]


def cells(
    canvas: Canvas,
    places: Places,
    length: tuple[float, float],
    width: tuple[float, float],
    density: tuple[float, float],
    *,
    angle: Field | None = None,
    ragged: float = 0.1,
    hollow: float = 0.0,
    clumped: float = 0.2,
) -> Cells:
    """Cells at these places; each range is drawn from anew for each cell."""
    count = len(places[0])
    return Cells(
        *places,
        canvas.draws(*length, count),
        canvas.draws(*width, count),
        canvas.draws(0, pi, count) if angle is None else angle,
        canvas.draws(*density, count),
        ragged,
        hollow,
        clumped,
    )


def few(canvas: Canvas, places: Places, share: float) -> Places:
    """A random share of these places."""
    keep = canvas.draws(0, 1, len(places[0])) < share
    return places[0][keep], places[1][keep]


def stamp(canvas: Canvas, bodies: Cells, chromatin: Field) -> tuple[Field, Field]:
    """How much of each pixel the bodies cover, and how much dye they bring there.

    All bodies are computed at once, each in a window of its own; where they overlap, the darker wins.
    """
    cover, dye = np.zeros((2, canvas.size + 2, canvas.size + 2))
    if len(bodies.x) == 0:
        return cover[1:-1, 1:-1], dye[1:-1, 1:-1]
    rows, columns, depth = _windows(canvas, bodies)
    part = np.clip(depth * (bodies.width / 2 / canvas.pixel)[:, None, None] + 0.5, 0, 1)
    grain = np.pad(chromatin, 1)[rows, columns]
    tone = 1 - bodies.hollow * np.clip(2.5 * depth, 0, 1) + bodies.clumped * grain
    np.maximum.at(cover, (rows, columns), part)
    np.maximum.at(dye, (rows, columns), part * bodies.density[:, None, None] * tone)
    return cover[1:-1, 1:-1], dye[1:-1, 1:-1]


def _windows(canvas: Canvas, bodies: Cells) -> tuple[NDArray[np.intp], NDArray[np.intp], Field]:
    """Each body's pixels (counted from 1: row 0 and column 0 are the border) and how deep inside they lie."""
    reach = float(bodies.length.max()) / 2 * (1 + 2 * bodies.ragged)
    offsets = np.arange(-int(reach / canvas.pixel) - 1, int(reach / canvas.pixel) + 2)
    column = np.floor(bodies.x / canvas.pixel).astype(np.intp)[:, None] + offsets
    row = np.floor(bodies.y / canvas.pixel).astype(np.intp)[:, None] + offsets
    right = ((column + 0.5) * canvas.pixel - bodies.x[:, None])[:, None, :]
    down = ((row + 0.5) * canvas.pixel - bodies.y[:, None])[:, :, None]
    cos, sin = np.cos(bodies.angle)[:, None, None], np.sin(bodies.angle)[:, None, None]
    u = (right * cos + down * sin) / (bodies.length / 2)[:, None, None]
    v = (down * cos - right * sin) / (bodies.width / 2)[:, None, None]
    depth = _outline(canvas, bodies, u, v)
    rows = np.clip(row + 1, 0, canvas.size + 1)[:, :, None]
    columns = np.clip(column + 1, 0, canvas.size + 1)[:, None, :]
    full_rows, full_columns = np.broadcast_arrays(rows, columns)
    return full_rows, full_columns, depth


def _outline(canvas: Canvas, bodies: Cells, u: Field, v: Field) -> Field:
    """How far inside a ragged unit circle a point lies: 1 in the middle, 0 on the line, negative outside."""
    square = u * u + v * v + 1e-9
    radius = np.sqrt(square)
    two, three, more = canvas.draws(-1, 1, 3, len(bodies.x), 1, 1)
    bumps = (two * (u * u - v * v) + more * 2 * u * v) / square
    bumps += three * u * (u * u - 3 * v * v) / (square * radius)
    depth: Field = 1 + bodies.ragged * bumps - radius
    return depth
