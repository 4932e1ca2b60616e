"""Who belongs to which split.

Official splits are kept. Where there are none, a stable hash of the image's group deals it out, so
that one group never stands on two sides and new images never move old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from histoflow.components import Row, SplitName
from histoflow.errors import DataError
from histoflow.seeds import fraction

Deal = Callable[[Row, str], SplitName]
"""From a row and the hash of its image to the row's split."""


def dealer(rows: Iterable[Row], val: float, test: float, seed: int) -> Deal:
    """How to deal these rows out; a split that the data set does not bring is cut from its training part."""
    official = {row.split for row in rows}
    if official == {None}:
        return lambda row, image_hash: _by_hash(row, image_hash, val, test, seed)
    if None in official or "train" not in official:
        named = ", ".join(sorted(name for name in official if name)) or "none"
        raise DataError(
            f"Either every image has a split and some are 'train', or none has one. "
            f"Found splits {named}{', and images without one' if None in official else ''}."
        )
    missing_val, missing_test = (
        0.0 if name in official else share for name, share in (("val", val), ("test", test))
    )

    def deal(row: Row, image_hash: str) -> SplitName:
        if row.split is not None and row.split != "train":
            return row.split
        return _by_hash(row, image_hash, missing_val, missing_test, seed)

    return deal


def _by_hash(row: Row, image_hash: str, val: float, test: float, seed: int) -> SplitName:
    # Without a group the image itself is the key: copies of one image then stay on one side.
    place = fraction(seed, f"group {row.group}" if row.group is not None else f"image {image_hash}")
    if place < test:
        return "test"
    return "val" if place < test + val else "train"
