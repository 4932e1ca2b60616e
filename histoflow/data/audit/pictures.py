"""Images that show nothing: bare background, black, or a single colour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding

Mask = NDArray[np.bool_]

_BARE = 0.999  # share of background: a speck of dust is allowed, a nucleus is not
_DARK, _STEADY = 12, 8  # levels: the brightest channel's mean, and how far it varies
_ONE_COLOUR = 2  # levels that compression makes of one
_GLASS = 0.9  # share of background in the middle image of a class that shows little else


def check(examined: Examined) -> Iterator[Answer]:
    """Whether images are blank, black or of one colour; none is counted twice."""
    black, blank, constant = empty(examined)
    expected = blank & _of_a_class_of_glass(examined, blank)
    yield _answer(examined, "black", "all but black", black)
    yield _answer(examined, "blank", "bare background", blank & ~expected, _expected(expected))
    yield _answer(examined, "constant", "of a single colour", constant)


def empty(examined: Examined) -> tuple[Mask, Mask, Mask]:
    """Which images are black, which are blank, and which else are of one colour."""
    features = examined.features
    black = (features["mean"].max(axis=1) <= _DARK) & (features["std"].max(axis=1) <= _STEADY)
    blank = (features["background"] >= _BARE) & ~black
    return black, blank, one_colour(examined) & ~black & ~blank


def one_colour(examined: Examined) -> Mask:
    low, high = examined.features["low"], examined.features["high"]
    constant: Mask = (high - low <= _ONE_COLOUR).all(axis=1)
    return constant


def _of_a_class_of_glass(examined: Examined, blank: Mask) -> Mask:
    """Images of a class that shows little but background where it is not blank, as one of NCT-CRC-HE does."""
    labels, background = examined.labels, examined.features["background"]
    found = np.zeros(len(background), np.bool_)
    if labels.ndim == 1:
        for label in np.unique(labels):
            members = labels == label
            others = background[members & ~blank]
            found |= members & (len(others) > 0 and float(np.median(others)) >= _GLASS)
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
