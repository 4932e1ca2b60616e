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
from histoflow.data.audit.together import Together


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
    turns, sure = np.zeros(len(places), np.int8), np.ones(len(places), np.bool_)
    return Copies(examined, content, places, places, turns, sure)


def sets_of_copies(*found: Copies) -> Places:
    """Of each image the first of all that hang together with it as copies, or -1 where it has none."""
    (content, images) = found[0].content, found[0].images.sum(axis=1)
    sets = Together(len(images))
    for copies in found:
        sets.join(copies.first, copies.second)
    paired = np.concatenate([places for copies in found for places in (copies.first, copies.second)])
    alone = ~np.isin(np.arange(len(images)), paired)
    foremost = np.full(len(images), len(content))
    np.minimum.at(foremost, sets.all, found[0].foremost.min(axis=1))
    return np.where(alone, -1, foremost[sets.all])[content]


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
