"""What it means that some images are copies of others: twice in a split, in two splits, under two labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, SplitName
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]
OTHERS: dict[SplitName, tuple[SplitName, ...]] = {"test": ("train", "val"), "val": ("train",)}
"""For each split that measures: those from which its images must keep away."""
BY_CHANCE = 0.002
"""Of a split, or of all images: so few near copies may be images that only look alike. On clean `tissue` the
search has been wrong about 0.06 % of 100,000 images."""
_TURNS = ("", "flipped", "flipped", "rotated", "flipped", "rotated", "rotated", "flipped")


@dataclass(frozen=True)
class Copies:
    """Pairs of contents that are copies; images of the same pixels have one content."""

    examined: Examined
    content: Places
    """Of each image."""
    first: Places
    second: Places
    """The pairs; a content is a pair with itself where exact copies are meant."""
    turns: NDArray[np.int8]
    """How the second is turned, see ``alike.turned``."""
    sure: Mask
    """The pairs that are copies pixel for pixel, once turned; the others only look alike."""
    plain: int = 0
    """Images that show next to nothing, and so were not compared but pixel for pixel."""

    @cached_property
    def images(self) -> Places:
        """Contents × splits: how many images there are."""
        counts = np.zeros((int(self.content.max(initial=-1)) + 1, len(SPLITS)), np.int64)
        np.add.at(counts, (self.content, self.examined.splits), 1)
        return counts

    @cached_property
    def foremost(self) -> Places:
        """Contents × splits: the first image, or as many as there are images where there is none."""
        first = np.full(self.images.shape, len(self.content))
        np.minimum.at(first, (self.content, self.examined.splits), np.arange(len(self.content)))
        return first

    @cached_property
    def labels(self) -> tuple[Places, Places]:
        """The least and the greatest label of each content, as numbers that differ where labels do."""
        labels = _label_numbers(self.examined.labels)
        least = np.full(len(self.images), np.iinfo(np.int64).max)
        greatest = np.full(len(self.images), -1)
        np.minimum.at(least, self.content, labels)
        np.maximum.at(greatest, self.content, labels)
        return least, greatest

    def differ(self, first: Places, second: Places) -> Mask:
        """Whether some image of the one content has another label than some image of the other."""
        least, greatest = self.labels
        found: Mask = (least[first] != greatest[second]) | (greatest[first] != least[second])
        return found

    def members(self, contents: Mask, splits: Sequence[SplitName] = SPLITS) -> Mask:
        """The images of these contents in these splits."""
        inside = np.isin(self.examined.splits, [SPLITS.index(split) for split in splits])
        found: Mask = contents[self.content] & inside
        return found

    def contents(self, *places: Places) -> Mask:
        found = np.zeros(len(self.images), np.bool_)
        found[np.concatenate(places)] = True
        return found

    def examples(self, pairs: Places, ones: Places, others: Places) -> tuple[str, ...]:
        """``a.png (test) = b.png (train, rotated)`` for the three pairs whose images stand foremost."""
        order = np.lexsort((others, ones))[:3]
        return tuple(
            f"{self._named(ones[place])} = {self._named(others[place], _TURNS[self.turns[pairs[place]]])}"
            for place in order
        )

    def _named(self, image: int, turn: str = "") -> str:
        split = SPLITS[self.examined.splits[image]]
        return f"{self.examined.sources[image]} ({', '.join(filter(None, (split, turn)))})"


# ── Across splits ───────────────────────────────────────────────────────────────────────────────


def across(copies: Copies, kind: str, into: SplitName) -> Answer:
    """Whether images of ``into`` stand in the splits as well from which they must keep away."""
    home, away = SPLITS.index(into), [SPLITS.index(split) for split in OTHERS[into]]
    here, there = copies.images[:, home] > 0, copies.images[:, away].sum(axis=1) > 0
    one = np.flatnonzero(here[copies.first] & there[copies.second])
    twice = copies.first != copies.second
    other = np.flatnonzero(twice & here[copies.second] & there[copies.first])
    inside = np.concatenate([copies.first[one], copies.second[other]])
    outside = np.concatenate([copies.second[one], copies.first[other]])
    concerned = copies.members(copies.contents(inside), (into,))
    leaking = np.flatnonzero(copies.members(copies.contents(outside), OTHERS[into]))
    pairs = np.concatenate([one, other])
    examples = copies.examples(
        pairs,
        copies.foremost[inside, home],
        copies.foremost[outside][:, away].min(axis=1),
    )
    total = int((copies.examined.splits == home).sum())
    return leak(
        f"{'copies' if kind == 'copies' else 'near_copies'}_in_{into}",
        into,
        Leak(int(concerned.sum()), total, kind, examples, len(leaking), bool(copies.sure[pairs].any())),
        leaking,
    )


@dataclass(frozen=True)
class Leak:
    """Images of a split that stand elsewhere as well."""

    images: int
    total: int
    what: str
    """Such as ``near copies``."""
    examples: tuple[str, ...]
    elsewhere: int
    sure: bool
    """Whether any of them are copies beyond doubt."""


def leak(check: str, into: SplitName, found: Leak, leaking: Places) -> Answer:
    setting, others = f"leaks_into_{into}", " or ".join(OTHERS[into])
    if not found.images:
        message = f"No image of {into} has {found.what} in {others}."
        return Answer(Finding(check=check, setting=setting, severity="ok", message=message))
    share = found.images / found.total
    perhaps = not found.sure and share <= BY_CHANCE
    message, advice = _told(found, share, into, perhaps)
    finding = Finding(
        check=check,
        setting=setting,
        severity="note" if perhaps else "warning",
        message=f"{message} {'; '.join(found.examples)}.",
        advice=f"{advice} set audit.{setting} to drop (leaves out {found.elsewhere:,}).",
        images=found.images,
        examples=found.examples,
        figures={"share": share, "elsewhere": found.elsewhere},
    )
    return Answer(finding, tuple(leaking.tolist()), f"it has {found.what} in {into}")


def _told(found: Leak, share: float, into: SplitName, perhaps: bool) -> tuple[str, str]:
    """What is said, and the beginning of what is advised."""
    others = " or ".join(OTHERS[into])
    have = f"{found.images:,} {'image has' if found.images == 1 else 'images have'}"
    if perhaps:
        return (
            f"{have} perhaps {found.what} in {others}: {share:.2%} of {into}, so few that they may look "
            f"alike by chance.",
            "Look at them; if they are copies,",
        )
    return (
        f"{have} {found.what} in {others}: {share:.2%} of {into}, whose scores will be too good.",
        "Name each image's patient or slide as its group and let histoflow deal the splits, or",
    )


# ── Under two labels ────────────────────────────────────────────────────────────────────────────


def conflicts(copies: Copies, check: str, what: str) -> Answer:
    """Whether copies carry different labels."""
    first, second = copies.first, copies.second
    pairs = np.flatnonzero(copies.differ(first, second))
    images = copies.members(copies.contents(first[pairs], second[pairs]))
    if not len(pairs):
        message = f"No image has {what} under another label."
        return Answer(Finding(check=check, setting="label_conflicts", severity="ok", message=message))
    examples = _labelled_examples(copies, pairs)
    drop = np.flatnonzero(images & (copies.examined.splits == SPLITS.index("train")))
    count, share = int(images.sum()), float(images.mean())
    perhaps = share <= BY_CHANCE and not copies.sure[pairs].any()
    told = (
        f"perhaps have {what} under another label, or look alike by chance"
        if perhaps
        else f"have {what} under another label, so one of the two is wrong"
    )
    finding = Finding(
        check=check,
        setting="label_conflicts",
        severity="note" if perhaps else "warning",
        message=f"{count:,} images ({share:.2%}) {told}: {'; '.join(examples)}.",
        advice=f"{'Look at them; if they are copies, correct' if perhaps else 'Correct'} the labels, or set "
        f"audit.label_conflicts to drop (leaves out {len(drop):,} of train).",
        images=count,
        examples=examples,
        figures={"share": share},
    )
    return Answer(finding, tuple(drop.tolist()), f"it has {what} under another label")


def _label_numbers(labels: NDArray[Any]) -> Places:
    """One number for each label, or for each combination of labels."""
    if labels.ndim == 1:
        return labels.astype(np.int64)
    _, numbers = np.unique(labels, axis=0, return_inverse=True)
    return numbers.reshape(-1)


def _labelled_examples(copies: Copies, pairs: Places) -> tuple[str, ...]:
    """The first three pairs of images that differ in label."""
    foremost = copies.foremost.min(axis=1)
    order = np.argsort(
        np.minimum(foremost[copies.first[pairs]], foremost[copies.second[pairs]]), kind="stable"
    )[:3]
    return tuple(_labelled_example(copies, pair) for pair in pairs[order])


def _labelled_example(copies: Copies, pair: np.int64) -> str:
    ones = np.flatnonzero(copies.content == copies.first[pair]).tolist()
    others = np.flatnonzero(copies.content == copies.second[pair]).tolist()
    one, other = next(
        (one, other) for one in ones for other in others if _label(copies, one) != _label(copies, other)
    )
    return " = ".join(f"{copies.examined.sources[i]} ({_label(copies, i)})" for i in sorted((one, other)))


def _label(copies: Copies, image: int) -> str:
    label, classes = copies.examined.labels[image], copies.examined.classes
    if np.ndim(label) == 0:
        return classes[int(label)]
    return " and ".join(classes[place] for place in np.flatnonzero(label)) or "none"
