"""The verdict on drift: which figures of the latest predictions left their bands, and which way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow import drift
from histoflow.drift import SHOWS, Counted, Kept, Known, Reference
from histoflow.errors import DataError, RunError, UserError
from histoflow.evaluation.distributions import FEWEST, distance, limit_for
from histoflow.runs import Run


@dataclass(frozen=True)
class Difference:
    """Of one figure, between the images predicted and validation."""

    figure: str
    distance: float | None
    """Jensen–Shannon, from 0 to 1; None where it was not measured."""
    band: float | None
    """How far it is by chance: sets of as many images of validation are nearer in 99 of 100 draws."""
    words: str
    """What is different; where it was not measured, why."""

    @property
    def outside(self) -> bool:
        return self.distance is not None and self.band is not None and self.distance > self.band


@dataclass(frozen=True)
class Drift:
    predictions: int
    images: int
    """That were measured, of all predictions together."""
    problems: int
    """Images that could not be predicted."""
    differences: tuple[Difference, ...]
    """None of them where there are too few images."""
    note: str
    """What a reader must know of the bands, and of files that were left out."""

    @property
    def told(self) -> bool:
        """Whether there were enough images to tell."""
        return bool(self.differences)

    @property
    def outside(self) -> tuple[Difference, ...]:
        """The furthest outside first."""
        found = [one for one in self.differences if one.outside]
        return tuple(sorted(found, key=_beyond, reverse=True))

    @property
    def words(self) -> str:
        if not self.told:
            return f"Too few images to tell drift: {self.images} were predicted, and it takes {FEWEST}."
        measured = sum(one.distance is not None for one in self.differences)
        if not self.outside:
            return f"No drift: all {measured} figures of {self.images:,} images lie within their bands."
        count = f"{len(self.outside)} of {measured} figures of {self.images:,} images"
        return f"Drift: {count} left their bands: {'; '.join(one.words for one in self.outside)}."

    def to_json(self) -> dict[str, Any]:
        figures = [{**asdict(one), "outside": one.outside} for one in self.differences]
        verdict = ("outside" if self.outside else "inside") if self.told else "too few"
        return {**asdict(self), "differences": figures, "verdict": verdict, "words": self.words}


def _beyond(one: Difference) -> float:
    assert one.distance is not None
    return one.distance / one.band if one.band else inf


def look(run: Run, last: int = 1) -> Drift:
    """At the ``last`` predictions of a run, taken together."""
    if last < 1:
        raise UserError(f"--last must be at least 1. Got {last}.")
    reference = _reference_of(run)
    ours, damaged = _latest(drift.kept_in(run.predictions), reference.key, last)
    if not ours:
        raise RunError(
            f"{run.id} has predicted no image files since it was evaluated. "
            f"Do that first: histoflow predict {run.id} IMAGES…"
        )
    return _judged(reference, ours, damaged)


def _latest(paths: Sequence[Path], key: str, last: int) -> tuple[list[Kept], list[str]]:
    """The latest predictions that were counted by this reference, and what is the matter with older files.

    Of the very latest files each must be whole, for it would be one of those.
    """
    found: list[Kept] = []
    damaged = []
    for place, path in enumerate(reversed(paths)):
        try:
            one = drift.read_kept(path)
        except DataError as error:
            if place < last:
                raise
            damaged.append(str(error))
            continue
        if one.reference == key:
            found.append(one)
        if len(found) == last:
            break
    return found[::-1], damaged


def look_at(run: Run, kept: Path) -> Drift:
    """At a single prediction, by the file of its statistics."""
    return _judged(_reference_of(run), [drift.read_kept(kept)])


def _reference_of(run: Run) -> Reference:
    reference = drift.reference_in(run.folder)
    if reference is None:
        raise RunError(
            f"{run.id} keeps nothing that new images could be held against. "
            f"Evaluate it, then predict images: histoflow evaluate {run.id}"
        )
    return reference


def _judged(reference: Reference, kept: Sequence[Kept], notes: Sequence[str] = ()) -> Drift:
    images = sum(one.images - one.problems for one in kept)
    found = {name: _together(name, kept) for name in reference.figures}
    return Drift(
        predictions=len(kept),
        images=images,
        problems=sum(one.problems for one in kept),
        differences=_differences(reference, found) if images >= FEWEST else (),
        note=" ".join(filter(None, (reference.note, *(f"Left out: {note}" for note in notes)))),
    )


def _together(name: str, kept: Sequence[Kept]) -> Counted | None:
    one, *others = [prediction.figures.get(name) for prediction in kept]
    for other in others:
        one = one + other if one and other else one or other
    return one


def _differences(reference: Reference, found: Mapping[str, Counted | None]) -> tuple[Difference, ...]:
    return tuple(
        _difference(name, known, found[name], reference.sizes) for name, known in reference.figures.items()
    )


def _difference(name: str, known: Known, found: Counted | None, sizes: Sequence[int]) -> Difference:
    if found is None or found.images < FEWEST:
        return Difference(name, None, None, "not compared: predicted with --tta, as validation was not")
    far = distance(np.array(known.counted.counts), np.array(found.counts))
    return Difference(
        name, float(far), limit_for(found.images, sizes, known.limits), _change(name, known, found)
    )


def _change(name: str, known: Known, found: Counted) -> str:
    if known.names is not None:
        return _told_otherwise(name, known.names, known.counted, found)
    former = known.counted
    if _is_moved(former, found):
        way = "higher" if found.mean > former.mean else "lower"
        return f"{name} is {way}, on average {found.mean:.3g} where validation has {former.mean:.3g}"
    way = "more" if found.spread > former.spread else "less"
    return (
        f"{name} varies {way}, by {found.spread:.3g} (standard deviation) where validation has "
        f"{former.spread:.3g}"
    )


def _is_moved(former: Counted, found: Counted) -> bool:
    """Whether the mean says more of the change than the spread does."""
    if not former.spread or not found.spread:
        return former.mean != found.mean
    return abs(found.mean - former.mean) / former.spread >= abs(log(found.spread / former.spread))


def _told_otherwise(figure: str, names: Sequence[str], former: Counted, found: Counted) -> str:
    before, now = (np.array(one.counts) / one.images for one in (former, found))
    place = 1 if figure.startswith(SHOWS) else _most_changed(now - before)
    what = figure.removeprefix(SHOWS) if figure.startswith(SHOWS) else names[place]
    return _how_often(what, float(before[place]), float(now[place]))


def _most_changed(gains: NDArray[np.float64]) -> int:
    """Where two classes have changed as much, that which is told more often."""
    return max(range(len(gains)), key=lambda place: (round(float(abs(gains[place])), 9), float(gains[place])))


def _how_often(what: str, before: float, now: float) -> str:
    way = "more" if now > before else "less"
    return f"'{what}' is told {way} often, of {now:.1%} of the images where it was {before:.1%} of validation"
