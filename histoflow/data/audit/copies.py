"""Images whose pixels are the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from histoflow.components import SPLITS
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.crossing import Copies, Mask, Places, across, conflicts
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding
from histoflow.data.audit.pictures import one_colour


def check(examined: Examined) -> Iterator[Answer]:
    """Whether images stand twice, pixel for pixel: in a split, in two splits, under two labels.

    Images of a single colour are passed over: they are alike without being copies.
    """
    found = exact(examined)
    yield _within(found)
    yield conflicts(found, "label_conflicts", "an exact copy")
    yield across(found, "copies", "test")
    yield across(found, "copies", "val")


def exact(examined: Examined) -> Copies:
    content = contents(examined)
    counted = np.zeros(int(content.max(initial=-1)) + 1, np.bool_)
    counted[content[~one_colour(examined)]] = True
    counted &= np.bincount(content, minlength=len(counted)) > 1
    places = np.flatnonzero(counted)
    return Copies(examined, content, places, places, np.zeros(len(places), np.int8))


def contents(examined: Examined) -> Places:
    """A number for each image; the same for the same pixels."""
    _, numbers = np.unique(examined.hashes, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64)


def _within(found: Copies) -> Answer:
    counted = found.contents(found.first)
    twice = counted[:, None] & (found.images > 1)
    images = twice[found.content, found.examined.splits]
    first = found.foremost[found.content, found.examined.splits]
    later = np.flatnonzero(images & (first != np.arange(len(first))))
    if not len(later):
        message = "No image stands twice in its split, pixel for pixel."
        return Answer(Finding(check="duplicates", setting="duplicates", severity="ok", message=message))
    names = found.examined.sources
    examples = tuple(f"{names[first[place]]} = {names[place]}" for place in later[:3])
    count = int(images.sum())
    finding = Finding(
        check="duplicates",
        setting="duplicates",
        message=f"{count:,} images ({count / len(images):.2%}) have the same pixels as another of "
        f"their split: {'; '.join(examples)}.",
        advice=f"Set audit.duplicates to drop to keep the first of each (leaves out {len(later):,}).",
        images=count,
        examples=examples,
        figures={"share": count / len(images), "later": len(later), "per_split": _per_split(found, images)},
    )
    return Answer(finding, tuple(later.tolist()), "it has the same pixels as an earlier image of its split")


def _per_split(found: Copies, images: Mask) -> dict[str, int]:
    counts = np.bincount(found.examined.splits[images], minlength=len(SPLITS))
    return dict(zip(SPLITS, counts.tolist(), strict=True))
