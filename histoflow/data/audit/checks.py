"""All checks of the audit, and what becomes of the images that they would have left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from histoflow import progress
from histoflow.data.audit import copies, counts, groups, metadata, near, pictures, shift, shortcuts
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding

Check = Callable[[Examined], Iterable[Answer]]


@dataclass(frozen=True)
class Audited:
    """What the audit found, and which images go into quarantine for it."""

    findings: tuple[Finding, ...]
    """Of each check at least one, ``ok`` where it found nothing."""
    dropped: Mapping[int, str]
    """The reason for each image that is left out, by its position in ``Examined``; ascending."""
    copies: NDArray[np.int64]
    """Of each examined image the position of the first of all that hang together with it as copies; -1 where
    it has none."""


def audit(
    examined: Examined,
    policies: Mapping[str, str],
    *,
    unreadable: Sequence[tuple[str, str]] = (),
    asked_shares: Mapping[str, float] | None = None,
) -> Audited:
    """Ask everything of the images; those that a policy drops are left out of what is counted after it.

    Where that empties a split, nothing is asked of what is left.
    Of ``policies`` (a setting of the experiment's ``audit`` → warn, drop or refuse) only ``drop`` counts
    here: findings are stored as they were found, and ``policy.judged`` refuses when they are read, so that
    a change between warn and refuse packs nothing anew. ``unreadable`` holds source and reason of each
    image that could not be decoded. ``asked_shares`` holds the share asked for of each split that was dealt
    out rather than brought.
    """
    answers = [_unreadable(unreadable)]
    dropped: dict[int, str] = {}
    of_all: tuple[Check, ...] = (pictures.check, groups.check, copies.check)
    of_kept: tuple[Check, ...] = (
        lambda kept: counts.check(kept, asked_shares or {}),
        metadata.check,
        shortcuts.check,
        shift.check,
    )
    with progress.track("Auditing", total=len(of_all) + 1 + len(of_kept), unit="checks") as advance:
        for check in of_all:
            answers += _dropping(check(examined), policies, dropped)
            advance()
        nearly = near.near(examined)
        answers += _dropping(near.answers(nearly), policies, dropped)
        examined = replace(examined, copies=copies.sets_of_copies(copies.exact(examined), nearly))
        advance()
        kept = examined.without(sorted(dropped)) if dropped else examined
        if len(np.unique(kept.splits)) < len(np.unique(examined.splits)):
            of_kept = ()  # there is nothing to ask of a split that was emptied; the caller refuses it
        for check in of_kept:
            answers += check(kept)
            advance()
    assert examined.copies is not None
    return Audited(
        tuple(answer.finding for answer in answers), dict(sorted(dropped.items())), examined.copies
    )


def _dropping(
    answers: Iterable[Answer], policies: Mapping[str, str], dropped: dict[int, str]
) -> Iterator[Answer]:
    for answer in answers:
        if policies.get(answer.finding.setting) == "drop" and answer.drop:
            for position in answer.drop:
                dropped.setdefault(int(position), answer.why)
            yield replace(answer, finding=_left_out(answer))
        else:
            yield answer


def _left_out(answer: Answer) -> Finding:
    number = f"{len(answer.drop):,} {'image was' if len(answer.drop) == 1 else 'images were'}"
    message = f"{answer.finding.message} {number} left out for it."
    return replace(answer.finding, message=message, advice="", severity="note")


def _unreadable(images: Sequence[tuple[str, str]]) -> Answer:
    if not images:
        found = Finding(check="unreadable", message="All images can be read.", severity="ok")
    else:
        reasons = list(dict.fromkeys(reason for _, reason in images))
        more = f" and {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
        found = Finding(
            check="unreadable",
            message=f"{len(images):,} {'image' if len(images) == 1 else 'images'} cannot be used and "
            f"{'was' if len(images) == 1 else 'were'} left out: {'; '.join(reasons[:3])}{more}.",
            images=len(images),
            examples=tuple(source for source, _ in images[:5]),
        )
    return Answer(replace(found, setting="unreadable"))
