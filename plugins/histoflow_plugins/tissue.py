"""``tissue``: painted patches that look like H&E-stained tissue, for demonstrations, tests and benchmarks.

Nothing is downloaded, and no patient stands behind it: every patch follows from the parameters and
its index. The test slides come from a second laboratory, whose stains training never sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from histoflow import SPLITS, Dataset, Facts, Params, Row, Samples, SplitName, hookimpl
from histoflow.seeds import derive

if TYPE_CHECKING:
    from histoflow.components import ImageArray
    from histoflow_plugins._tissue_scenes import Stain

NINE = (
    "adipose",
    "background",
    "debris",
    "lymphocytes",
    "mucus",
    "smooth_muscle",
    "normal_mucosa",
    "stroma",
    "tumour",
)
TWO = ("normal", "tumour")
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_IMAGE, _SLIDE = 1, 2  # what a seed is for, so that image 3 and slide 3 share nothing


class TissueParams(Params):
    """What to paint, and how much of it."""

    classes: Literal[2, 9] = 9
    """9 kinds of colorectal tissue, as in PathMNIST, or 2: tumour in the central third or not, as in PCam."""
    size: int = Field(64, ge=16, le=512)
    """The side of a patch in pixels; the field of view is 100 micrometres at every size."""
    images: int = Field(2700, ge=27, le=1_000_000)
    """Patches in all: about 70 % to train, 10 % to validate, 20 % to test."""
    slides: int = Field(45, ge=3, le=10_000)
    """Synthetic slides that the patches come from, each with a stain of its own."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Another seed paints other patches of other slides."""


def class_names(params: TissueParams) -> tuple[str, ...]:
    return NINE if params.classes == 9 else TWO


def facts(params: TissueParams) -> Facts:
    return Facts(
        task="multiclass" if params.classes == 9 else "binary",
        classes=class_names(params),
        channels=3,
        size=(params.size, params.size),
        images=params.images,
        official_split=True,
        groups=True,
        licence="Generated; no rights reserved (CC0-1.0)",
        citation="Painted by histoflow's 'tissue' data set; no real tissue was used.",
    )


def open_(params: TissueParams, files: Sequence[Path]) -> Samples:
    rows = [_row(params, index) for index in range(params.images)]
    return Samples(classes=class_names(params), rows=rows, read=partial(read, params))


# ── The layout: which patch comes from which slide ──────────────────────────────────────────────


@dataclass(frozen=True)
class Place:
    """Where a patch stands in the data set."""

    split: SplitName
    slide: int
    label: int


def divide(total: int, least: int) -> dict[SplitName, int]:
    """The total by the splits' shares, and at least ``least`` for each."""
    val, test = (max(least, round(total * SHARES[split])) for split in ("val", "test"))
    return {"train": total - val - test, "val": val, "test": test}


def place(params: TissueParams, index: int) -> Place:
    """Classes take turns, and after each round of them the slides of the split do."""
    images, slides = divide(params.images, params.classes), divide(params.slides, 1)
    first_slide = 0
    for split in SPLITS:
        if 0 <= index < images[split]:
            slide = first_slide + index // params.classes % slides[split]
            return Place(split, slide, index % params.classes)
        index, first_slide = index - images[split], first_slide + slides[split]
    raise IndexError(f"The data set holds {params.images} patches.")


def _row(params: TissueParams, index: int) -> Row:
    found = place(params, index)
    return Row(
        label=found.label, source=f"patch {index}", split=found.split, group=f"slide-{found.slide:03d}"
    )


# ── Stains ──────────────────────────────────────────────────────────────────────────────────────

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Laboratory:
    """The range of a laboratory's stains; each colour lies between the two given, per slide."""

    haematoxylin: tuple[Colour, Colour]
    """Optical density in red, green and blue."""
    eosin: tuple[Colour, Colour]
    light: tuple[Colour, Colour]
    strength: tuple[float, float]


HOME = Laboratory(
    haematoxylin=((0.58, 0.74, 0.32), (0.74, 0.66, 0.24)),
    eosin=((0.09, 0.80, 0.32), (0.24, 0.70, 0.46)),
    light=((0.93, 0.92, 0.93), (0.97, 0.96, 0.96)),
    strength=(0.65, 1.35),
)
ABROAD = Laboratory(
    haematoxylin=((0.57, 0.78, 0.27), (0.64, 0.74, 0.22)),
    eosin=((0.05, 0.82, 0.25), (0.11, 0.78, 0.30)),
    light=((0.94, 0.93, 0.91), (0.97, 0.95, 0.93)),
    strength=(0.65, 1.35),
)


def stain_of(params: TissueParams, split: SplitName, slide: int) -> Stain:
    from histoflow_plugins._tissue_canvas import Dice
    from histoflow_plugins._tissue_scenes import Stain

    laboratory = ABROAD if split == "test" else HOME
    dice = Dice(derive(params.seed, _SLIDE, slide))

    def between(colours: tuple[Colour, Colour], strength: float = 1.0) -> Colour:
        share = dice.draw(0, 1)
        red, green, blue = (strength * (a + share * (b - a)) for a, b in zip(*colours, strict=True))
        return red, green, blue

    return Stain(
        haematoxylin=between(laboratory.haematoxylin, dice.draw(*laboratory.strength)),
        eosin=between(laboratory.eosin, dice.draw(*laboratory.strength)),
        light=between(laboratory.light),
        blur=dice.draw(0.0, 0.6),
    )


# ── One patch ───────────────────────────────────────────────────────────────────────────────────


def read(params: TissueParams, index: int) -> ImageArray:
    from histoflow_plugins._tissue_canvas import Canvas
    from histoflow_plugins._tissue_scenes import develop, lymph_node, one_of_nine

    found = place(params, index)
    canvas = Canvas(params.size, derive(params.seed, _IMAGE, index))
    nine = params.classes == 9
    scene = one_of_nine(canvas, NINE[found.label]) if nine else lymph_node(canvas, bool(found.label))
    return develop(canvas, scene, stain_of(params, found.split, found.slide))


TISSUE = Dataset(
    name="tissue",
    summary="Painted H&E-like patches, 9 tissues or tumour in the centre; nothing to download",
    params=TissueParams,
    facts=facts,
    open=open_,
)


@hookimpl
def histoflow_datasets() -> Iterable[Dataset[TissueParams]]:
    return (TISSUE,)
