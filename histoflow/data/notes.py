"""What packing itself has to say of the images: worth knowing, and no fault of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from histoflow import progress
from histoflow.data.audit.finding import Finding
from histoflow.data.chunks import DecodedSet

_EXAMPLES = 5
_NEARLY_ALL = 0.9
"""Of the images must be alike before the others count as wrongly sized."""
_ALIKE = 0.05
"""How far from the usual a height, a width or a shape may be, as a share of it."""


def notes(
    decoded: DecodedSet, size: tuple[int, int], may_decline: Mapping[int, str], sources: Sequence[str]
) -> Iterator[Finding]:
    """Images that were enlarged, that are wrongly sized, and that a step gave back as they were.

    Each is said aloud as well.
    """
    for finding in (
        *_enlarged(decoded, size, sources),
        *_wrongly_sized(decoded, sources),
        *_declined(decoded, may_decline, sources),
    ):
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


def _wrongly_sized(decoded: DecodedSet, sources: Sequence[str]) -> Iterator[Finding]:
    """Where nearly all images are of one size, those of another; else where they are of one shape.

    Nothing where both vary widely.
    """
    raw = decoded.columns["size"]
    sizes = raw.astype(np.float64)
    for told, figures in (("size", sizes), ("shape", sizes[:, :1] / sizes[:, 1:])):
        usual = np.median(figures, axis=0)
        places = np.flatnonzero((np.abs(figures / usual - 1) > _ALIKE).any(axis=1))
        if len(places) <= (1 - _NEARLY_ALL) * len(sizes):
            if len(places):
                yield _other_than(told, usual, raw[places], _examples(places.tolist(), sources))
            return


def _other_than(
    told: str, usual: NDArray[np.float64], odd: NDArray[np.int32], examples: tuple[str, ...]
) -> Finding:
    others = (
        f"about {usual[0]:.0f}×{usual[1]:.0f}" if told == "size" else f"{usual[0]:.2f} times as high as wide"
    )
    pairs = zip(examples, odd.tolist(), strict=False)
    return Finding(
        check="wrongly_sized",
        severity="warning",
        message=f"{_images(len(odd))} of another {told} than nearly all others, which are {others}: "
        f"{', '.join(f'{source} ({height}×{width})' for source, (height, width) in pairs)}"
        f"{', …' if len(odd) > len(examples) else ''}.",
        advice="Look whether they are what they should be: they were made as large as the others.",
        images=len(odd),
        examples=examples,
        figures={"sizes": np.unique(odd, axis=0)[:_EXAMPLES].tolist()},
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
