"""Images that show nothing: bare background, black, or a single colour."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.answer import Answer
from histoflow.data.audit.closer import NEAR_WHITE, background
from histoflow.data.audit.examined import Examined, Images
from histoflow.data.audit.finding import Finding

Mask = NDArray[np.bool_]

_BARE = 0.999  # share of background: a speck of dust is allowed, a nucleus is not
_LIGHT = 0.9 * NEAR_WHITE  # levels: no bare image has a darker mean
_DARK, _STEADY = 12, 8  # levels: the brightest channel's mean, and how far it varies
_ONE_COLOUR = 2  # levels that compression makes of one
_GLASS = 0.9  # share of background in the middle image of a class that shows little else
_MOST_LOOKED_AT = 1_000  # images of a class, to find its middle one


def check(examined: Examined) -> Iterator[Answer]:
    """Whether images are blank, black or of one colour; none is counted twice."""
    black, blank, constant = empty(examined)
    expected = blank & _of_a_class_of_glass(examined, blank)
    yield _answer(examined, "black", "all but black", black)
    yield _answer(examined, "blank", "bare background", blank & ~expected, _expected(expected))
    yield _answer(examined, "constant", "of a single colour", constant)


def empty(examined: Examined) -> tuple[Mask, Mask, Mask]:
    """Which images are black, which are blank, and which else are of one colour."""
    mean, std = examined.features["mean"], examined.features["std"]
    black = (mean.max(axis=1) <= _DARK) & (std.max(axis=1) <= _STEADY)
    blank = _where(examined, mean.min(axis=1) >= _LIGHT, lambda images: background(images) >= _BARE)
    return black, blank & ~black, one_colour(examined) & ~black & ~blank


def one_colour(examined: Examined) -> Mask:
    steady = examined.features["std"].max(axis=1) <= _ONE_COLOUR  # as it is at most half of the range
    return _where(examined, steady, lambda images: (np.ptp(images, axis=(1, 2)) <= _ONE_COLOUR).all(axis=1))


def _where(examined: Examined, possible: Mask, measure: Callable[[Images], Mask]) -> Mask:
    """Which images are so, of those whose pixels have to be looked at to say it."""
    found = np.zeros(len(possible), np.bool_)
    places = np.flatnonzero(possible)
    found[places] = examined.seen(places, measure)
    return found


def _of_a_class_of_glass(examined: Examined, blank: Mask) -> Mask:
    """Images of a class that shows little but background where it is not blank, as one of NCT-CRC-HE does."""
    labels, found = examined.labels, np.zeros(len(blank), np.bool_)
    if labels.ndim == 1:
        for label in np.unique(labels[blank]):
            others = np.flatnonzero((labels == label) & ~blank)
            some = others[np.linspace(0, len(others) - 1, min(len(others), _MOST_LOOKED_AT)).astype(np.int64)]
            if len(some) and np.median(examined.seen(some, background)) >= _GLASS:
                found |= labels == label
    return found


def _expected(blank: Mask) -> str:
    count = int(blank.sum())
    return f" {count:,} of a class that shows background by nature are not counted." if count else ""


def _answer(examined: Examined, check: str, what: str, found: Mask, more: str = "") -> Answer:
    places = np.flatnonzero(found)
    if not len(places):
        return Answer(
            Finding(check=check, setting=check, severity="ok", message=f"No image is {what}.{more}")
        )
    examples = tuple(examined.sources[place] for place in places[:3])
    is_ = "image is" if len(places) == 1 else "images are"
    finding = Finding(
        check=check,
        setting=check,
        message=f"{len(places):,} {is_} {what} ({found.mean():.2%}), such as {', '.join(examples)}.{more}",
        advice=f"Set audit.{check} to drop to leave them out.",
        images=len(places),
        examples=examples,
        figures={"share": float(found.mean())},
    )
    return Answer(finding, tuple(places.tolist()), f"it is {what}")
