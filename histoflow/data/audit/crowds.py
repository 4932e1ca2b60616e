"""Sets of so many near copies that not each pair of them is looked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS
from histoflow.data.audit.alike import Pairs, correlated
from histoflow.data.audit.crossing import Copies, Places
from histoflow.data.audit.together import Together

_AT_ONCE = 4096


def crowds(copies: Copies, crowded: Places) -> Iterator[Pairs]:
    """Pairs of contents by which each set with one of the ``crowded`` contents counts as a whole.

    Each content is paired with the foremost of every split, and with two of different labels where there are
    such: so it is known of each in which splits it has copies, and whether any has another label.
    """
    sets = Together(len(copies.images))
    sets.join(copies.first, copies.second)
    of = sets.all
    for whole in np.unique(of[crowded]):
        members = np.flatnonzero(of == whole)
        for anchor in _anchors(copies, members):
            others = members[members != anchor]
            yield Pairs(np.full(len(others), anchor), others, _turns(copies, anchor, others))


def _anchors(copies: Copies, members: Places) -> list[int]:
    found = [
        int(members[copies.foremost[members, split].argmin()])
        for split in range(len(SPLITS))
        if copies.images[members, split].any()
    ]
    differing = members[copies.differ(np.full(len(members), found[0]), members)]
    return list(dict.fromkeys([*found, *differing[:1].tolist()]))


def _turns(copies: Copies, anchor: int, others: Places) -> NDArray[np.int8]:
    """How each of the others has to be turned to look most like the anchor."""
    image = copies.foremost.min(axis=1)
    thumbnails = copies.examined.features["thumbnail"]
    turns = []
    for start in range(0, len(others), _AT_ONCE):
        part = thumbnails[image[others[start : start + _AT_ONCE]]]
        turns.append(correlated(np.broadcast_to(thumbnails[image[anchor]], part.shape), part)[1])
    return np.concatenate(turns)
