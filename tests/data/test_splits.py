"""Nothing of one group stands on two sides, and growing data never move an image."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histoflow.components import Row
from histoflow.data.splits import dealer
from histoflow.errors import DataError

GROUPED = [Row(label=index % 2, source=str(index), group=f"patient-{index % 400}") for index in range(4000)]
LOOSE = [Row(label=index % 2, source=str(index)) for index in range(4000)]


def deal(rows: list[Row], val: float = 0.2, test: float = 0.1, seed: int = 0) -> list[str]:
    one = dealer(rows, val, test, seed)
    return [one(row, f"hash of {row.source}") for row in rows]


@pytest.mark.parametrize("rows", [GROUPED, LOOSE], ids=["groups", "no groups"])
def test_shares_are_about_what_was_asked_for_in_every_class(rows: list[Row]) -> None:
    splits = deal(rows)
    for label in (0, 1):
        counts = Counter(split for split, row in zip(splits, rows, strict=True) if row.label == label)
        assert abs(counts["val"] / 2000 - 0.2) < 0.06
        assert abs(counts["test"] / 2000 - 0.1) < 0.06


@given(st.integers(0, 2**32), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_no_group_stands_on_two_sides(seed: int, val: float, test: float) -> None:
    places: dict[str | None, str] = {}
    for row, split in zip(GROUPED, deal(GROUPED, val, test, seed), strict=True):
        assert places.setdefault(row.group, split) == split


def test_added_images_move_none_of_the_old() -> None:
    assert deal(GROUPED)[:1000] == deal(GROUPED[:1000])
    assert deal(LOOSE)[:1000] == deal(LOOSE[:1000])


def test_copies_of_an_image_without_a_group_stay_together() -> None:
    one = dealer(LOOSE, 0.3, 0.3, 0)
    assert one(LOOSE[0], "same pixels") == one(LOOSE[1], "same pixels")


def test_another_seed_deals_otherwise() -> None:
    assert deal(GROUPED, seed=0) != deal(GROUPED, seed=1)


def test_official_splits_are_kept() -> None:
    rows = [Row(label=0, source=str(i), split=split) for i, split in enumerate(("train", "val", "test") * 9)]
    assert deal(rows) == ["train", "val", "test"] * 9


def test_a_missing_official_split_is_cut_from_training_alone() -> None:
    train = [Row(label=0, source=f"a{index}", split="train") for index in range(1000)]
    test = [Row(label=0, source=f"b{index}", split="test") for index in range(200)]
    splits = deal(train + test)
    assert set(splits[:1000]) == {"train", "val"}
    assert set(splits[1000:]) == {"test"}
    assert abs(splits.count("val") / 1000 - 0.2) < 0.05


def test_half_official_splits_are_refused() -> None:
    with pytest.raises(DataError, match="Found splits train, and images without one"):
        dealer([Row(label=0, source="a", split="train"), Row(label=0, source="b")], 0.1, 0.1, 0)
    with pytest.raises(DataError, match="Found splits test"):
        dealer([Row(label=0, source="a", split="test")], 0.1, 0.1, 0)
