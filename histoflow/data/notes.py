"""What packing itself has to say of the images: worth knowing, and no fault of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from histoflow import progress
from histoflow.data.audit.finding import Finding
from histoflow.data.chunks import DecodedSet

_EXAMPLES = 5


def notes(
    decoded: DecodedSet, size: tuple[int, int], may_decline: Mapping[int, str], sources: Sequence[str]
) -> Iterator[Finding]:
    """Images that were enlarged, and those that a step gave back as they were; each is said aloud as well."""
    for finding in (*_enlarged(decoded, size, sources), *_declined(decoded, may_decline, sources)):
        progress.say(finding.message)
        yield finding


def _enlarged(decoded: DecodedSet, size: tuple[int, int], sources: Sequence[str]) -> Iterator[Finding]:
    raw = decoded.columns["size"]
    places = np.flatnonzero((raw < size).any(axis=1))
    if len(places):
        smallest = raw[places[np.argmin(raw[places].prod(axis=1, dtype=np.int64))]]
        yield Finding(
            check="enlarged",
            severity="note",
            message=f"{_images(len(places))} smaller than the {size[0]}×{size[1]} that they are packed at, "
            f"the smallest {smallest[0]}×{smallest[1]}. Enlarging adds no detail and costs time.",
            images=len(places),
            examples=_examples(places.tolist(), sources),
            figures={"smallest": smallest.tolist()},
        )


def _declined(
    decoded: DecodedSet, may_decline: Mapping[int, str], sources: Sequence[str]
) -> Iterator[Finding]:
    for column, (_, name) in enumerate(sorted(may_decline.items())):
        places = np.flatnonzero(decoded.columns["declined"][:, column])
        if len(places):
            yield Finding(
                check=f"unchanged_by_{name}",
                severity="note",
                message=f"{_images(len(places))} left by {name} as they came, for it could do nothing there.",
                images=len(places),
                examples=_examples(places.tolist(), sources),
            )


def _images(count: int) -> str:
    return "1 image was" if count == 1 else f"{count:,} images were"


def _examples(places: Sequence[int], sources: Sequence[str]) -> tuple[str, ...]:
    return tuple(sources[place] for place in places[:_EXAMPLES])
