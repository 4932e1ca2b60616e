"""Whether each split holds enough of each class, and the shares of the images that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding, Severity
from histoflow.data.splits import advice, best_seed

FEW, RARE = 20, 0.01
"""Fewer images of a class, or a smaller share of a split, and its figures are hardly worth having."""
_NAMED = 5
_SLACK_OF_CLASSES = 2.0
_SEEDS = 200  # tried, to find one that deals better

Counts = NDArray[np.int64]


def check(examined: Examined, asked: Mapping[str, float]) -> Iterator[Answer]:
    """``asked`` holds the share asked for of each split that was dealt out rather than brought."""
    counts = per_class(examined)
    yield from _missing(counts, examined, asked)
    yield _rare(counts, examined)
    if asked:
        yield _shares(counts, examined, asked)


def per_class(examined: Examined) -> Counts:
    """Splits × classes; an image of a multilabel data set counts in each class that it shows."""
    counts = np.zeros((len(SPLITS), len(examined.classes)), np.int64)
    for split in range(len(SPLITS)):
        labels = examined.labels[examined.splits == split]
        if labels.ndim == 2:
            counts[split] = labels.sum(axis=0, dtype=np.int64)
        else:
            counts[split] = np.bincount(labels.astype(np.int64), minlength=len(examined.classes))
    return counts


def _missing(counts: Counts, examined: Examined, asked: Mapping[str, float]) -> Iterator[Answer]:
    if counts.all():
        yield _classes("missing_class", "Every split has images of every class.", "ok")
    for split, row in zip(SPLITS, counts, strict=True):
        absent = [f"'{examined.classes[place]}'" for place in np.flatnonzero(row == 0)]
        if absent:
            of = f"class {absent[0]}" if len(absent) == 1 else f"the classes {_listed(absent)}"
            seed = (
                f" {_other_seed(examined, asked)}" if asked and SPLITS.index(split) in _dealt(asked) else ""
            )
            yield _classes("missing_class", f"The {split} split has no image of {of}.{seed}", "warning")


def _rare(counts: Counts, examined: Examined) -> Answer:
    sizes = np.array([(examined.splits == split).sum() for split in range(len(SPLITS))])
    rare = (counts > 0) & ((counts < FEW) | (counts < RARE * sizes[:, None]))
    limits = f"fewer than {FEW} images, or under {RARE:.0%}, of a split"
    if not rare.any():
        return _classes("rare_class", f"No class has {limits}.", "ok")
    told = [
        f"'{examined.classes[place]}' ("
        + ", ".join(f"{SPLITS[split]} {counts[split, place]:,}" for split in np.flatnonzero(rare[:, place]))
        + ")"
        for place in np.flatnonzero(rare.any(axis=0))
    ]
    return _classes(
        "rare_class",
        f"Rare classes, with {limits}: {_listed(told)}. Their figures will be uncertain.",
        "warning",
        int(counts[rare].sum()),
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return ", ".join(names)


def _classes(check: str, message: str, severity: Severity, images: int = 0) -> Answer:
    return Answer(Finding(check=check, message=message, severity=severity, setting="classes", images=images))


# ── Shares ──────────────────────────────────────────────────────────────────────────────────────


def _shares(counts: Counts, examined: Examined, asked: Mapping[str, float]) -> Answer:
    """Of the images that were dealt out; those of a split that the data set brings are not among them."""
    dealt = _dealt(asked)
    sizes = np.bincount(examined.splits, minlength=len(SPLITS))
    total, of_class = int(sizes[dealt].sum()), counts[dealt].sum(axis=0)
    found = {split: float(sizes[SPLITS.index(split)] / total) for split in asked}
    told = [
        f"The {split} split holds {found[split]:.0%} of the images where {share:.0%} were asked for."
        for split, share in asked.items()
        if _is_off(found[split], share, total)
    ]
    told += [
        line
        for split, share in asked.items()
        if (line := _off_classes(counts[SPLITS.index(split)], of_class, examined.classes, split, share))
    ]
    figures = {"asked": dict(asked), "found": {split: round(value, 4) for split, value in found.items()}}
    if not told:
        shares = " and ".join(f"{split} {value:.0%}" for split, value in found.items())
        return _of_shares(f"The splits hold about the shares asked for: {shares}.", "ok", figures)
    seed = _other_seed(examined, asked)
    return _of_shares(f"{' '.join(told)} Groups are few or uneven. {seed}", "warning", figures)


def _is_off(found: float, asked: float, images: int, slack: float = 1.0) -> bool:
    """Beyond what is of no consequence, and beyond what chance does to images dealt one by one."""
    chance = 3 * float(np.sqrt(asked * (1 - asked) / max(images, 1)))
    return abs(found - asked) > max(slack * 0.05, slack * asked / 3, chance)


def _off_classes(held: Counts, of_class: Counts, classes: Sequence[str], split: str, asked: float) -> str:
    off = [
        f"{share:.0%} of '{name}'"
        for name, images, all_images in zip(classes, held, of_class, strict=True)
        if all_images
        and _is_off(share := float(images / all_images), asked, int(all_images), _SLACK_OF_CLASSES)
    ]
    return f"The {split} split holds {_listed(off)} where {asked:.0%} were asked for." if off else ""


def _dealt(asked: Mapping[str, float]) -> list[int]:
    return [SPLITS.index("train"), *(SPLITS.index(split) for split in asked)]


def _other_seed(examined: Examined, asked: Mapping[str, float]) -> str:
    if examined.groups is None:
        return "Another split.seed deals them otherwise."
    dealt = np.isin(examined.splits, _dealt(asked))
    keys = [f"group {group}" for group, is_dealt in zip(examined.groups, dealt, strict=True) if is_dealt]
    shares = asked.get("val", 0.0), asked.get("test", 0.0)
    return advice(best_seed(keys, examined.labels[dealt], *shares, seeds=range(_SEEDS)), keys)


def _of_shares(message: str, severity: Severity, figures: dict[str, Any]) -> Answer:
    return Answer(
        Finding(
            check="split_shares",
            message=message,
            severity=severity,
            setting="split_shares",
            figures=figures,
        )
    )
