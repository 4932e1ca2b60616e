"""Images that are nearly the same: turned, flipped, recompressed, a little brighter, noisier or smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from histoflow.components import SPLITS
from histoflow.data.audit.alike import Pairs, alike, detailed
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.copies import contents
from histoflow.data.audit.crossing import Copies, Mask, Places, across, conflicts
from histoflow.data.audit.crowds import crowds
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding
from histoflow.data.audit.pictures import empty, one_colour
from histoflow.data.audit.turned import turned_copies

_LEAST_SIDE = 16
"""Pixels; smaller images hold too little to tell a near copy from another image."""


def check(examined: Examined) -> Iterator[Answer]:
    """Whether images stand twice, nearly the same: in a split, in two splits, under two labels.

    Exact copies are not counted again. Images that show next to nothing are passed over, unless they are
    turned copies pixel for pixel: recompression leaves nothing by which they could be known again.
    """
    yield from answers(near(examined))


def answers(found: Copies) -> Iterator[Answer]:
    """The same of copies that were found before."""
    yield _within(found)
    yield conflicts(found, "near_label_conflicts", "a near copy")
    yield across(found, "near copies", "test")
    yield across(found, "near copies", "val")


def near(examined: Examined) -> Copies:
    content = contents(examined)
    _, single = np.unique(content, return_index=True)
    tells = telling(examined)
    turned = turned_copies(examined, single)
    changed = _alike(examined, np.sort(single[tells[single]]))
    found = _in_order(content, turned, changed)
    exactly = _in_order(content, turned)
    copies = Copies(
        examined,
        content,
        found.first,
        found.second,
        found.turns,
        sure=_among(found, exactly),
        plain=int((~tells).sum()),
    )
    if not len(changed.crowded):
        return copies
    found = _in_order(np.arange(len(copies.images)), found, *crowds(copies, content[changed.crowded]))
    sure = _among(found, exactly)
    return replace(copies, first=found.first, second=found.second, turns=found.turns, sure=sure)


def telling(examined: Examined) -> Mask:
    """Images that show enough to be known again when they have changed."""
    tells: Mask = ~np.logical_or.reduce([*empty(examined), one_colour(examined)])
    if tells.any() and min(examined.images(np.zeros(1, np.int64)).shape[1:3]) < _LEAST_SIDE:
        tells[:] = False
    tells &= detailed(examined.features["thumbnail"])
    return tells


def _alike(examined: Examined, chosen: Places) -> Pairs:
    pairs = alike(examined.features["thumbnail"][chosen], examined.features["mean"][chosen])
    return Pairs(chosen[pairs.first], chosen[pairs.second], pairs.turns, chosen[pairs.crowded])


_BACK = np.array([0, 1, 2, 3, 4, 6, 5, 7], np.int8)
"""The turn that undoes each: a quarter turn is undone by the other one, and all others by themselves."""


def _in_order(content: Places, *found: Pairs) -> Pairs:
    """Each pair of contents once, the lesser first; as the first of those found has it."""
    first = content[np.concatenate([pairs.first for pairs in found])]
    second = content[np.concatenate([pairs.second for pairs in found])]
    turns = np.concatenate([pairs.turns for pairs in found])
    both = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
    turns = np.where(first < second, turns, _BACK[turns])
    both, kept = np.unique(both, axis=0, return_index=True)
    return Pairs(both[:, 0], both[:, 1], turns[kept])


def _among(pairs: Pairs, others: Pairs) -> Mask:
    """Which of these pairs are among the others, both in order."""
    contents = 1 + max(pairs.second.max(initial=0), others.second.max(initial=0))
    among: Mask = np.isin(pairs.first * contents + pairs.second, others.first * contents + others.second)
    return among


# ── Within a split ──────────────────────────────────────────────────────────────────────────────


def _within(found: Copies) -> Answer:
    concerned = np.zeros(len(found.content), np.bool_)
    later = np.zeros(len(found.content), np.bool_)
    examples: list[str] = []
    for place, split in enumerate(SPLITS):
        here = found.images[:, place] > 0
        pairs = np.flatnonzero(here[found.first] & here[found.second])
        foremost = found.foremost[:, place]
        ones, others = foremost[found.first[pairs]], foremost[found.second[pairs]]
        concerned |= found.members(found.contents(found.first[pairs], found.second[pairs]), (split,))
        later |= found.members(_later(found, pairs, foremost), (split,))
        examples += found.examples(pairs, np.minimum(ones, others), np.maximum(ones, others))
    count, share, drop = int(concerned.sum()), float(concerned.mean()), np.flatnonzero(later)
    passed_over = _passed_over(found.plain)
    if not count:
        message = f"No image stands twice in its split, nearly the same.{passed_over}"
        return Answer(
            Finding(check="near_duplicates", setting="near_duplicates", severity="ok", message=message)
        )
    finding = Finding(
        check="near_duplicates",
        setting="near_duplicates",
        message=f"{count:,} images ({share:.2%}) are nearly the same as another of their split, perhaps "
        f"rotated, flipped or recompressed: {'; '.join(examples[:3])}.{passed_over}",
        advice=f"Set audit.near_duplicates to drop to keep the first of each (leaves out {len(drop):,}).",
        images=count,
        examples=tuple(examples[:3]),
        figures={"share": share, "later": len(drop), "plain": found.plain},
    )
    return Answer(finding, tuple(drop.tolist()), "it is nearly the same as an earlier image of its split")


def _passed_over(plain: int) -> str:
    show = "1 image that shows" if plain == 1 else f"{plain:,} images that show"
    return f" Of {show} next to nothing, only copies pixel for pixel were looked for." if plain else ""


def _later(found: Copies, pairs: Places, foremost: Places) -> Mask:
    """Contents to leave out, so that of any two that are alike at most the earlier one stays."""
    ones, others = found.first[pairs], found.second[pairs]
    earlier = np.where(foremost[ones] < foremost[others], ones, others)
    out = np.zeros(len(foremost), np.bool_)
    later = ones + others - earlier
    for pair in np.lexsort((foremost[earlier], foremost[later])):
        out[later[pair]] |= not out[earlier[pair]]
    return out
