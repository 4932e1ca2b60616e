"""The kinds of tissue that ``tissue`` paints, each as amounts of two dyes and the cells on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi

import numpy as np
from numpy.typing import NDArray

from histoflow_plugins._tissue_canvas import Canvas, Cells, Field, Places, cells, few, scatter, stamp


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
