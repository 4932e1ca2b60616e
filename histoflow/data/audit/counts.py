"""What a sceptical reader would ask of packed data: copies and groups across splits, missing classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from histoflow.components import SPLITS
from histoflow.data.audit.finding import Finding


def audit(
    classes: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    groups: Mapping[str, Collection[str]],
    image_hashes: Mapping[str, Collection[str]],
) -> list[Finding]:
    """Look over each split's images per class, group ids, and hashes of pixels."""
    return [
        *_shared("groups_across_splits", "groups (patients, slides or photos)", groups),
        *_shared("duplicates_across_splits", "images, pixel for pixel the same,", image_hashes),
        *_missing_classes(classes, counts),
    ]


def _shared(check: str, what: str, members: Mapping[str, Collection[str]]) -> list[Finding]:
    places: dict[str, list[str]] = defaultdict(list)
    for split in SPLITS:
        for member in set(members.get(split, ())):
            places[member].append(split)
    spread = {member: where for member, where in places.items() if len(where) > 1}
    if not spread:
        return []
    examples = "; ".join(f"{member} in {' and '.join(where)}" for member, where in sorted(spread.items())[:3])
    return [
        Finding(
            check=check,
            message=f"{len(spread)} {what} stand in more than one split, "
            f"so scores may be too good: {examples}.",
        )
    ]


def shares(counts: Mapping[str, Sequence[int]], asked: Mapping[str, float]) -> list[Finding]:
    """Whether the splits that were dealt out hold about the shares that were asked for."""
    total = sum(map(sum, counts.values()))
    found = {split: sum(counts[split]) / total for split in asked}
    return [
        Finding(
            check="split_shares",
            message=f"The {split} split holds {found[split]:.0%} of the images where {share:.0%} were "
            f"asked for: groups are few or uneven. Another split.seed deals them otherwise.",
        )
        for split, share in asked.items()
        if abs(found[split] - share) > max(0.05, share / 3)
    ]


def _missing_classes(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[Finding]:
    return [
        Finding(check="missing_class", message=f"The {split} split has no image of class '{classes[index]}'.")
        for split in SPLITS
        for index, count in enumerate(counts[split])
        if count == 0
    ]
