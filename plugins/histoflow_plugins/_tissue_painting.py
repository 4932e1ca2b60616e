"""How ``tissue`` paints: scenes in micrometres, as amounts of two dyes, seen through a stained slide.

All lengths are micrometres, so that a patch shows the same field of view at any number of pixels.
All chance is drawn as plain uniform numbers, and arithmetic is in double precision, so that other
machines and numpy versions have little to disagree on before the values are rounded to bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


# ── Tissues ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Tissue:
    """A painted scene before staining: the dye that the ground takes up, and the cells on it."""

    haematoxylin: Field
    eosin: Field
    cells: tuple[Cells, ...] = ()


@dataclass(frozen=True)
class Flow:
    """Bent coordinates, along and across fibres."""

    along: Field
    across: Field


def flow(canvas: Canvas, bend: float, crimp: float = 0.0) -> Flow:
    angle = canvas.draw(0, pi)
    along = canvas.x * np.cos(angle) + canvas.y * np.sin(angle)
    across = canvas.y * np.cos(angle) - canvas.x * np.sin(angle) + bend * canvas.noise(50)
    wave = 2 * pi * along / canvas.draw(16, 28) + 1.5 * canvas.noise(30)
    return Flow(along, across + crimp * np.sin(wave))


def strands(canvas: Canvas, course: Flow, width: float, length: float) -> Field:
    """Noise drawn out along the course, of about zero mean and unit spread."""
    lattice = canvas.draws(-1, 1, 64, 64)
    across, along = course.across / width, course.along / length
    row, column = np.floor(across).astype(np.intp), np.floor(along).astype(np.intp)
    s, t = _ease(across - row), _ease(along - column)
    top = lattice[row % 64, column % 64] * (1 - t) + lattice[row % 64, (column + 1) % 64] * t
    bottom = lattice[(row + 1) % 64, column % 64] * (1 - t) + lattice[(row + 1) % 64, (column + 1) % 64] * t
    return 2.4 * (top * (1 - s) + bottom * s)


def _ease(t: Field) -> Field:
    return t * t * (3 - 2 * t)


def heading(canvas: Canvas, across: Field, places: Places, disorder: float) -> Field:
    """The angle of the fibres at these places, give or take."""
    down: Field = np.gradient(across, axis=0)
    right: Field = np.gradient(across, axis=1)
    angle = np.arctan2(canvas.at(right, *places), -canvas.at(down, *places))
    return angle + canvas.draws(-disorder, disorder, len(angle))


def step(field: Field, edge: float, softness: float) -> Field:
    """0 below the edge, 1 above it, a ramp of this width between."""
    return np.clip((field - edge) / softness + 0.5, 0, 1)


Painter = Callable[[Canvas], Tissue]


def merge(canvas: Canvas, inner: Tissue, outer: Tissue, mask: Field) -> Tissue:
    """One tissue where the mask is 1, the other where it is 0; no cell is cut in two."""
    kept = [group.only(canvas.at(mask, group.x, group.y) > 0.5) for group in inner.cells]
    kept += [group.only(canvas.at(mask, group.x, group.y) <= 0.5) for group in outer.cells]
    return Tissue(
        inner.haematoxylin * mask + outer.haematoxylin * (1 - mask),
        inner.eosin * mask + outer.eosin * (1 - mask),
        tuple(kept),
    )


def lymphoid(canvas: Canvas, places: Places) -> Cells:
    """Small, round, dark nuclei."""
    return cells(canvas, places, (5.5, 7.5), (5, 6.8), (0.95, 1.45), ragged=0.05, clumped=0.22)


def adipose(canvas: Canvas) -> Tissue:
    """Large empty vacuoles between thin membranes, a flat nucleus here and there."""
    x, y = (place[:, None, None] for place in scatter(canvas, canvas.draw(34, 60), 0.3))
    warp = 2.5 * canvas.noise(22)
    nearest = np.partition(np.hypot(canvas.x + warp - x, canvas.y - warp - y), 1, axis=0)
    gap = nearest[1] - nearest[0]
    thickness = np.maximum(canvas.draw(1.4, 5) * (1 + 0.3 * canvas.noise(20)), 0.8)
    drawn = np.maximum(thickness, 1.3 * canvas.pixel)  # a thinner line would break into dots
    wall = np.clip(1.15 - gap / drawn, 0, 1) * thickness / drawn
    eosin = wall * canvas.draw(0.35, 0.85) * (1 + 0.2 * canvas.noise(4)) + canvas.draw(0.0, 0.1)
    places = _where(canvas, scatter(canvas, 8), gap < thickness, canvas.draw(0.1, 0.45))
    turn = heading(canvas, gap, places, 0.2)
    flat = cells(canvas, places, (7, 12), (2, 3.4), (0.7, 1.2), angle=turn, ragged=0.08)
    return Tissue(canvas.draw(0, 0.04) + 0.05 * wall, eosin + 0.01 * canvas.noise(18), (flat,))


def _where(canvas: Canvas, places: Places, allowed: NDArray[np.bool_], share: float = 1.0) -> Places:
    """A random share of those places that lie where it is allowed."""
    keep = canvas.at(allowed.astype(float), *places) > 0.5
    return few(canvas, (places[0][keep], places[1][keep]), share)


def background(canvas: Canvas) -> Tissue:
    """Empty glass: an uneven glow, dust, at times a thread or a faint smear."""
    veil = canvas.draw(0.0, 0.07) + 0.012 * canvas.noise(40) + 0.01 * canvas.noise(6)
    if canvas.happens(0.45):
        course = flow(canvas, 12)
        veil = veil + canvas.draw(0.1, 0.5) * np.exp(-(((course.across - canvas.draw(-20, 90)) / 1.6) ** 2))
    if canvas.happens(0.35):
        veil = veil + canvas.draw(0.05, 0.22) * step(canvas.noise(28), canvas.draw(0.8, 1.6), 0.8)
    dust = few(canvas, scatter(canvas, 16, 0.5), canvas.draw(0.0, 0.25))
    motes = cells(canvas, dust, (1.5, 5), (1.2, 3.5), (0.15, 0.7), ragged=0.3)
    share = canvas.draw(0.2, 0.8)
    return Tissue(veil * (1 - share), veil * share, (motes,))


def debris(canvas: Canvas) -> Tissue:
    """Necrosis: granular, smudged ground, shadows of dead cells and shards of their nuclei."""
    texture = 0.2 * canvas.noise(20) + 0.13 * canvas.noise(7) + 0.13 * canvas.noise(2.5)
    eosin = canvas.draw(0.3, 0.65) * (1 + texture) * (1 - 0.5 * step(canvas.noise(12), 1.6, 0.8))
    blue = canvas.draw(0.08, 0.3) * (1 + 0.3 * canvas.noise(5) + 0.3 * canvas.noise(22))
    crowded = canvas.noise(26) > canvas.draw(-1.2, 0.5)
    shards = _where(canvas, scatter(canvas, 4.5, 0.5), crowded, canvas.draw(0.4, 0.8))
    ghosts = few(canvas, scatter(canvas, 13), canvas.draw(0.1, 0.6))
    return Tissue(
        blue,
        eosin,
        (
            cells(canvas, ghosts, (7, 12), (6, 9), (0.25, 0.5), ragged=0.25, hollow=0.2, clumped=0.15),
            cells(canvas, shards, (1.4, 4.5), (1.2, 3), (0.5, 1.4), ragged=0.4),
        ),
    )


def lymphocytes(canvas: Canvas) -> Tissue:
    """Crowds of small round dark nuclei, with a few pale larger ones among them."""
    ground = canvas.draw(0.15, 0.4) + 0.1 * canvas.noise(5) + 0.08 * canvas.noise(20)
    crowd = scatter(canvas, canvas.draw(7.2, 10.5), 0.33)
    thin = canvas.noise(30) > canvas.draw(1.0, 2.4)
    crowd = _where(canvas, crowd, ~thin, canvas.draw(0.75, 1.0))
    pale = few(canvas, scatter(canvas, 21), canvas.draw(0.1, 0.6))
    return Tissue(
        0.1 + 0.05 * canvas.noise(9),
        ground,
        (
            cells(canvas, pale, (8, 12), (6, 8), (0.4, 0.65), hollow=0.3),
            lymphoid(canvas, crowd),
        ),
    )


def mucus(canvas: Canvas) -> Tissue:
    """Pale, streaming, bluish or pink veils with bubbles and stray cells."""
    course = flow(canvas, canvas.draw(6, 16), canvas.draw(0, 1.5))
    veil = strands(canvas, course, canvas.draw(6, 12), 60)
    thread = strands(canvas, course, canvas.draw(1.6, 2.6), 25)
    amount = 1 + 0.25 * veil + 0.2 * thread + 0.3 * canvas.noise(25) + 0.12 * canvas.noise(6)
    bubbles = step(canvas.noise(16), canvas.draw(1.0, 2.2), 0.9)
    amount = canvas.draw(0.1, 0.45) * np.maximum(amount, 0.1) * (1 - 0.8 * bubbles)
    blue = canvas.draw(0.2, 0.8)
    stray = few(canvas, scatter(canvas, 13, 0.5), canvas.draw(0.0, 0.3) ** 2 * 3)
    return Tissue(amount * blue, amount * (1.1 - blue), (lymphoid(canvas, stray),))


def smooth_muscle(canvas: Canvas) -> Tissue:
    """Tight parallel bundles with blunt, slender nuclei along them."""
    course = flow(canvas, canvas.draw(2, 6))
    bundles = strands(canvas, course, canvas.draw(5, 8), 90)
    fibrils = strands(canvas, course, canvas.draw(1.8, 2.6), 45)
    eosin = canvas.draw(0.5, 0.85) * (1 + 0.12 * bundles + 0.1 * fibrils + 0.06 * canvas.noise(30))
    eosin = eosin * (1 - 0.5 * step(-bundles, canvas.draw(1.4, 2.2), 0.5))
    places = few(canvas, scatter(canvas, canvas.draw(11.5, 15.5), 0.4), 0.9)
    rods = cells(
        canvas,
        places,
        (10, 19),
        (2.6, 4.4),
        (0.6, 1.1),
        angle=heading(canvas, course.across, places, 0.1),
        ragged=0.06,
        clumped=0.15,
    )
    return Tissue(0.08 + 0.02 * canvas.noise(12), eosin, (rods,))


def stroma(canvas: Canvas) -> Tissue:
    """Wavy, loose collagen with gaps, plump and spindly fibroblasts in it, a few lymphocytes."""
    course = flow(canvas, canvas.draw(8, 16), canvas.draw(1.6, 3.2))
    fibres = strands(canvas, course, canvas.draw(2.6, 4.4), 40)
    loose = canvas.noise(20)
    eosin = canvas.draw(0.4, 0.72) * (1 + 0.25 * fibres + 0.15 * loose)
    eosin = eosin * (1 - 0.75 * step(-fibres - 0.6 * loose, canvas.draw(0.8, 1.5), 0.6))
    places = few(canvas, scatter(canvas, canvas.draw(14, 22), 0.45), 0.8)
    turn = heading(canvas, course.across, places, 0.35)
    spindles = cells(canvas, places, (8, 16), (2.6, 5.5), (0.5, 1.1), angle=turn, ragged=0.14)
    guests = few(canvas, scatter(canvas, 14, 0.5), canvas.draw(0, 0.3))
    return Tissue(
        0.07 + 0.03 * canvas.noise(12),
        eosin,
        (spindles, lymphoid(canvas, guests)),
    )


def normal_mucosa(canvas: Canvas) -> Tissue:
    """Crypts: a ring of like nuclei at the base, goblets of mucin and a small lumen within."""
    scene = _lamina_propria(canvas)
    x, y = scatter(canvas, canvas.draw(60, 74), 0.12)
    for middle in zip(x, y, strict=True):
        scene = _with_crypt(canvas, scene, middle)
    return scene


def _lamina_propria(canvas: Canvas) -> Tissue:
    ground = canvas.draw(0.25, 0.5) + 0.12 * canvas.noise(5) + 0.08 * canvas.noise(18)
    guests = few(canvas, scatter(canvas, 9), canvas.draw(0.35, 0.8))
    return Tissue(np.full_like(ground, 0.08), ground, (lymphoid(canvas, guests),))


@dataclass(frozen=True)
class Crypt:
    """The outline of a gland: an ellipse, turned."""

    x: float
    y: float
    radius: float
    stretch: float
    turn: float

    def depth(self, canvas: Canvas) -> Field:
        """0 in the middle, 1 on the outline."""
        right, down = canvas.x - self.x, canvas.y - self.y
        along = (right * np.cos(self.turn) + down * np.sin(self.turn)) / self.stretch
        across = down * np.cos(self.turn) - right * np.sin(self.turn)
        depth: Field = np.hypot(along, across) / self.radius
        return depth

    def ring(self, canvas: Canvas, depth: float, pitch: float, disorder: float) -> tuple[Places, Field]:
        """Places side by side at this depth, and the direction outwards at each."""
        count = int(pi * depth * self.radius * (1 + self.stretch) / pitch)
        angle = 2 * pi * (np.arange(count) + canvas.draws(-0.3, 0.3, count)) / count
        reach = depth * self.radius + canvas.draws(-disorder, disorder, count)
        along, across = self.stretch * reach * np.cos(angle), reach * np.sin(angle)
        x = self.x + along * np.cos(self.turn) - across * np.sin(self.turn)
        y = self.y + along * np.sin(self.turn) + across * np.cos(self.turn)
        return (x, y), angle + self.turn


def _with_crypt(canvas: Canvas, around: Tissue, middle: tuple[float, float]) -> Tissue:
    crypt = Crypt(*middle, canvas.draw(23, 32), canvas.draw(1, 1.6), canvas.draw(0, pi))
    depth = crypt.depth(canvas) + 0.05 * canvas.noise(14)
    lumen = 1 - step(depth, canvas.draw(0.05, 0.3), 0.1)
    eosin = canvas.draw(0.35, 0.6) * (1 + 0.12 * canvas.noise(4)) * (1 - 0.9 * lumen)
    places, turn = crypt.ring(canvas, 0.83, canvas.draw(5, 6.5), 1.5)
    nuclei = cells(canvas, places, (7, 10.5), (4.2, 6), (0.65, 1.1), angle=turn, ragged=0.08, hollow=0.15)
    epithelium = Tissue(canvas.draw(0.08, 0.2) * (1 - lumen), eosin, (nuclei,))
    return merge(canvas, _with_goblets(canvas, epithelium, crypt), around, 1 - step(depth, 1.0, 0.08))


def _with_goblets(canvas: Canvas, epithelium: Tissue, crypt: Crypt) -> Tissue:
    """Drops of mucin displace the eosin and leave a faint blue."""
    places, turn = crypt.ring(canvas, 0.55, canvas.draw(8, 15), 4)
    drops = cells(canvas, places, (6, 12), (5, 8.5), (0.7, 1), angle=turn, ragged=0.15, clumped=0)
    _, mucin = stamp(canvas, drops, epithelium.eosin)
    blue = epithelium.haematoxylin * (1 - mucin) + canvas.draw(0.03, 0.2) * mucin
    return replace(epithelium, haematoxylin=blue, eosin=epithelium.eosin * (1 - 0.85 * mucin))


def tumour(canvas: Canvas) -> Tissue:
    """Crowded, large, unequal nuclei with nucleoli, in sheets or around ragged lumens."""
    lumen = step(canvas.noise(canvas.draw(20, 36)), canvas.draw(1.0, 2.6), 0.25)
    ground = canvas.draw(0.3, 0.65) * (1 + 0.1 * canvas.noise(4) + 0.12 * canvas.noise(16))
    basic = canvas.draw(0.06, 0.28) * (1 + 0.25 * canvas.noise(8))
    places = _where(canvas, scatter(canvas, canvas.draw(9.5, 13), 0.36), lumen < 0.3, 0.95)
    coarse, hollow = canvas.draw(0.05, 0.22), canvas.draw(0.0, 0.5)
    nuclei = cells(
        canvas, places, (8.5, 14), (6.5, 10), (0.6, 1.2), ragged=0.12, hollow=hollow, clumped=coarse
    )
    aside = canvas.draws(-1.6, 1.6, 2, len(places[0]))
    spots = few(canvas, (places[0] + aside[0], places[1] + aside[1]), canvas.draw(0.2, 0.8))
    nucleoli = cells(canvas, spots, (1.8, 3), (1.6, 2.6), (1.1, 1.5), ragged=0.05, clumped=0)
    return Tissue(basic * (1 - lumen), ground * (1 - 0.92 * lumen), (nuclei, nucleoli))


# ── Scenes: which tissues lie side by side ──────────────────────────────────────────────────────

NINE: dict[str, tuple[Painter, tuple[Painter, ...]]] = {
    "adipose": (adipose, (stroma, background, mucus)),
    "background": (background, (mucus, adipose, stroma)),
    "debris": (debris, (tumour, mucus, stroma)),
    "lymphocytes": (lymphocytes, (stroma, normal_mucosa, tumour)),
    "mucus": (mucus, (background, debris, tumour)),
    "smooth_muscle": (smooth_muscle, (stroma, adipose, lymphocytes)),
    "normal_mucosa": (normal_mucosa, (lymphocytes, mucus, background)),
    "stroma": (stroma, (tumour, lymphocytes, adipose)),
    "tumour": (tumour, (stroma, debris, lymphocytes)),
}
"""Each tissue, and those that may reach into a patch of it from one side."""

NODE = (lymphocytes, lymphocytes, lymphocytes, stroma, stroma, adipose)
"""What a lymph node without tumour shows, the commoner the oftener."""


def one_of_nine(canvas: Canvas, tissue: str) -> Tissue:
    """A patch of this tissue, often with a smaller part of another at its side."""
    painter, neighbours = NINE[tissue]
    scene = painter(canvas)
    if canvas.happens(0.5):
        return merge(canvas, canvas.choose(neighbours)(canvas), scene, _side(canvas))
    return scene


def lymph_node(canvas: Canvas, tumour_within: bool) -> Tissue:
    """A patch with tumour in its middle or not; either way there may be some near its border."""
    mask = tumour_mask(canvas, tumour_within)
    scene = canvas.choose(NODE)(canvas)
    return merge(canvas, tumour(canvas), scene, mask) if mask.any() else scene


def tumour_mask(canvas: Canvas, within: bool) -> Field:
    """Where tumour lies: near the border by chance, in the central third if it is to be within."""
    nests = [_nest_outside(canvas) for _ in range(2) if canvas.happens(0.5)]
    if within:
        nests.append(_nest_within(canvas))
    mask: Field = np.max([np.zeros_like(canvas.x), *nests], axis=0)
    return mask


def _side(canvas: Canvas) -> Field:
    """1 on one side of a wavy line that leaves more than half of the patch to the other."""
    turn, wave = canvas.draw(0, 2 * pi), 4 * canvas.noise(28)
    reach = (canvas.x - FIELD / 2) * np.cos(turn) + (canvas.y - FIELD / 2) * np.sin(turn)
    return step(reach + wave, canvas.draw(12, 42), 2)


def _nest_within(canvas: Canvas) -> Field:
    """A nest whose middle lies in the patch's central third."""
    radius = canvas.draw(13, 24) if canvas.happens(0.7) else canvas.draw(24, 65)
    return _nest(canvas, canvas.draw(36, 64), canvas.draw(36, 64), radius)


def _nest_outside(canvas: Canvas) -> Field:
    """A nest that keeps clear of the central third by more than a nucleus."""
    turn, distance = canvas.draw(0, 2 * pi), canvas.draw(50, 90)
    x, y = FIELD / 2 + distance * np.cos(turn), FIELD / 2 + distance * np.sin(turn)
    from_middle = np.maximum(np.abs(canvas.x - FIELD / 2), np.abs(canvas.y - FIELD / 2))
    return _nest(canvas, x, y, distance - canvas.draw(22, 28)) * step(from_middle, FIELD / 6 + 9, 1)


def _nest(canvas: Canvas, x: float, y: float, radius: float) -> Field:
    away = np.hypot(canvas.x - x, canvas.y - y)
    return step(radius * (1 + 0.2 * canvas.noise(22) + 0.07 * canvas.noise(7)) - away, 0, 2)


# ── Staining ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Stain:
    """How a slide was stained and scanned."""

    haematoxylin: tuple[float, float, float]
    """Optical density in red, green and blue of one unit of the dye."""
    eosin: tuple[float, float, float]
    light: tuple[float, float, float]
    """The colour of empty glass, 0..1."""
    blur: float


def develop(canvas: Canvas, tissue: Tissue, stain: Stain) -> NDArray[np.uint8]:
    """The image of a scene: dyes absorb light by the law of Beer and Lambert."""
    blue, pink = np.maximum(tissue.haematoxylin, 0), np.maximum(tissue.eosin, 0)
    chromatin = canvas.noise(1.8)
    for group in tissue.cells:
        cover, dye = stamp(canvas, group, chromatin)
        blue, pink = np.maximum(blue * (1 - cover), dye), pink * (1 - 0.65 * cover)
    blue = canvas.draw(0.55, 1.45) * _soften(blue, stain.blur)
    pink = canvas.draw(0.45, 1.65) * _soften(pink, stain.blur)
    density = blue[..., None] * np.array(stain.haematoxylin) + pink[..., None] * np.array(stain.eosin)
    image = 255 * np.array(stain.light) * np.exp(-density)
    image += 2.5 * (canvas.draws(-1, 1, *image.shape) + canvas.draws(-1, 1, canvas.size, canvas.size, 1))
    rounded: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return rounded


def _soften(field: Field, amount: float) -> Field:
    """A blur of one pixel's reach, from none (0) to even thirds (1)."""
    for _ in range(2):
        padded = np.pad(field, ((1, 1), (0, 0)), mode="edge")
        field = (field + amount / 2 * (padded[:-2] + padded[2:])) / (1 + amount)
        field = field.T
    return field
