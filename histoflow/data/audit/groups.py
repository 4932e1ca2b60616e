"""Groups (patients, slides, photos) that stand in more than one split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS, SplitName
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.crossing import OTHERS
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding


def check(examined: Examined) -> Iterator[Answer]:
    """Whether groups of test stand in train or val as well, and groups of val in train."""
    if examined.groups is None or not len(examined.groups):
        return
    names, numbers = np.unique(np.asarray(examined.groups, np.str_), return_inverse=True)
    present = np.zeros((len(names), len(SPLITS)), np.bool_)
    present[numbers, examined.splits] = True
    yield _across(examined, names, numbers, present, "test")
    yield _across(examined, names, numbers, present, "val")


def _across(
    examined: Examined,
    names: NDArray[np.str_],
    numbers: NDArray[np.intp],
    present: NDArray[np.bool_],
    into: SplitName,
) -> Answer:
    home, away = SPLITS.index(into), [SPLITS.index(split) for split in OTHERS[into]]
    check, setting, others = f"groups_in_{into}", f"leaks_into_{into}", " or ".join(OTHERS[into])
    spread = present[:, home] & present[:, away].any(axis=1)
    if not spread.any():
        message = f"No group of {into} stands in {others}."
        return Answer(Finding(check=check, setting=setting, severity="ok", message=message))
    concerned = spread[numbers]
    leaking = np.flatnonzero(concerned & np.isin(examined.splits, away))
    here = examined.splits == home
    images = int((concerned & here).sum())
    examples = tuple(names[spread][:3].tolist())
    stand = (
        "group (patient, slide or photo) stands"
        if spread.sum() == 1
        else "groups (patients, slides or photos) stand"
    )
    finding = Finding(
        check=check,
        setting=setting,
        message=f"{spread.sum():,} {stand} in {into} and in {others}, such as {', '.join(examples)}: "
        f"{images / here.sum():.2%} of {into}, whose scores may be too good.",
        advice=f"Let histoflow deal the splits by group, or set audit.{setting} to drop "
        f"(leaves out {len(leaking):,} of {others}).",
        images=images,
        examples=examples,
        figures={"groups": int(spread.sum()), "share": images / int(here.sum()), "elsewhere": len(leaking)},
    )
    return Answer(finding, tuple(leaking.tolist()), f"its group stands in {into} as well")
