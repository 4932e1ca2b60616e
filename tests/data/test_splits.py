"""Nothing of one group stands on two sides, and growing data never move an image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histoflow.components import Row
from histoflow.data.splits import advice, best_seed, dealer, key_of
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
    for row, split in zip(GROUPED[:1200], deal(GROUPED[:1200], val, test, seed), strict=True):
        assert places.setdefault(row.group, split) == split


ROWS = st.lists(
    st.builds(Row, label=st.integers(0, 3), source=st.text(max_size=3), group=st.text(max_size=2)),
    min_size=1,
    max_size=30,
)


@given(ROWS, ROWS, st.integers(0, 2**32))
def test_added_images_move_none_of_the_old(old: list[Row], new: list[Row], seed: int) -> None:
    assert deal(old + new, seed=seed)[: len(old)] == deal(old, seed=seed)
    without = [replace(row, group=None) for row in old + new]
    assert deal(without, seed=seed)[: len(old)] == deal(without[: len(old)], seed=seed)


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


def test_a_missing_official_split_is_cut_by_group() -> None:
    train = [Row(label=0, source=f"a{i}", split="train", group=f"patient-{i % 50}") for i in range(500)]
    test = [Row(label=0, source="b", split="test", group="patient-99")]
    splits = deal(train + test)[:500]
    places = {row.group: split for row, split in zip(train, splits, strict=True)}
    assert set(splits) == {"train", "val"}
    assert [places[row.group] for row in train] == splits


def test_half_official_splits_are_refused() -> None:
    with pytest.raises(DataError, match="Found splits train, and images without one"):
        dealer([Row(label=0, source="a", split="train"), Row(label=0, source="b")], 0.1, 0.1, 0)
    with pytest.raises(DataError, match="Found splits test"):
        dealer([Row(label=0, source="a", split="test")], 0.1, 0.1, 0)


# ── A seed under which a data set comes out well ────────────────────────────────────────────────

FEW = [Row(label=index % 9 // 3, source=str(index), group=f"patient-{index % 9}") for index in range(180)]
"""Nine patients, three of each class: with most seeds a split lacks a class."""


def keys(rows: list[Row]) -> list[str]:
    return [key_of(row, f"hash of {row.source}") for row in rows]


def labels(rows: list[Row]) -> np.ndarray[Any, Any]:
    return np.array([row.label for row in rows])


def test_the_seed_that_is_found_gives_each_split_each_class_and_about_its_share() -> None:
    found = best_seed(keys(FEW), labels(FEW), 0.33, 0.33)
    assert found is not None
    splits = deal(FEW, 0.33, 0.33, found.seed)
    assert found.complete
    assert {(split, row.label) for split, row in zip(splits, FEW, strict=True)} == {
        (split, label) for split in ("train", "val", "test") for label in range(3)
    }
    assert found.shares == {split: pytest.approx(splits.count(split) / 180) for split in found.shares}
    assert f"split.seed={found.seed} gives 33% train, 33% val, 33% test, each class in each" in str(found)


def test_a_seed_is_found_for_the_one_split_that_is_missing() -> None:
    rows = [replace(row, split="train") for row in FEW]
    found = best_seed(keys(rows), labels(rows), 0.33, 0)
    assert found is not None
    assert list(found.shares) == ["train", "val"]
    assert set(
        deal([*rows, Row(label=0, source="t", split="test", group="x")], 0.33, 0.2, found.seed)[:-1]
    ) == {
        "train",
        "val",
    }


def test_a_seed_is_found_where_images_show_several_classes() -> None:
    shown = np.stack([labels(FEW) == 0, labels(FEW) != 1], axis=1).astype(np.uint8)
    found = best_seed(keys(FEW), shown, 0.33, 0.33)
    assert found is not None
    splits = np.array(deal(FEW, 0.33, 0.33, found.seed))
    assert all(shown[splits == split].any(axis=0).all() for split in ("train", "val", "test"))


def test_where_a_class_has_too_few_groups_the_suggestion_says_so() -> None:
    rows = FEW[:180:9] + FEW[3:180:9] + FEW[4:180:9] + FEW[5:180:9]  # one patient of class 0
    found = best_seed(keys(rows), labels(rows), 0.33, 0.33)
    assert found is not None
    assert not found.complete
    assert "though not each class in each of them" in advice(found, keys(rows))


def test_where_no_seed_helps_the_advice_says_what_would() -> None:
    two = FEW[:180:9] + FEW[3:180:9]
    assert best_seed(keys(two), labels(two), 0.33, 0.33) is None
    assert "The images come in 2 groups" in advice(None, keys(two))
    assert "Raise split.val and split.test, or add data" in advice(None, keys(two))
