"""Packed stores cut anew for cross-validation: nothing of one group stands on two sides of a fold."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoflow import Facts, Row, Samples, progress
from histoflow.data import laying
from histoflow.data.dealing import deal_folds
from histoflow.data.folds import fold_store
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore, SplitReader
from histoflow.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (160, 6, 6, 3), np.uint8)
PIXELS[150:] = PIXELS[140:150]  # copies
FOLDS = 4


def read(index: int) -> Any:
    return PIXELS[index]


def packed(home: Path, seed: int = 0, **columns: Any) -> Path:
    """160 images of two classes; what is given as a function of the index becomes the rows' columns."""
    rows = [
        Row(label=index % 2, source=f"image-{index}", **{name: of(index) for name, of in columns.items()})
        for index in range(len(PIXELS))
    ]
    recipe = Recipe(
        dataset={"name": "made"},
        dataset_version=1,
        raw_digest="0",
        preprocess=[],
        split={"val": 0.2, "test": 0.2, "seed": seed},
    )
    return pack(recipe, Facts(), lambda: Samples(classes=("no", "yes"), rows=rows, read=read), (), home)


def patient(index: int) -> str:
    return f"patient-{index % 37}"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> PackedStore:
    return PackedStore(packed(tmp_path_factory.mktemp("packed"), group=patient))


@pytest.fixture(scope="module")
def cut(parent: PackedStore) -> list[PackedStore]:
    return [fold_store(parent.folder, FOLDS, number) for number in range(1, FOLDS + 1)]


def sources(*splits: SplitReader) -> list[str]:
    return sorted(source for split in splits for source in split.sources.tolist())


def test_each_image_of_train_and_val_is_held_out_once(parent: PackedStore, cut: list[PackedStore]) -> None:
    known = sources(parent.split("train"), parent.split("val"))
    assert sources(*(store.split("val") for store in cut)) == known
    for store in cut:
        assert sources(store.split("train"), store.split("val")) == known


def test_no_group_stands_on_both_sides_of_a_fold(cut: list[PackedStore]) -> None:
    for store in cut:
        train, val = store.split("train").groups, store.split("val").groups
        assert train is not None
        assert val is not None
        assert not set(train) & set(val)
        assert store.manifest.splits["val"].groups == len(set(val))


def test_folds_are_alike_in_size_and_classes(cut: list[PackedStore]) -> None:
    counts = np.array([store.manifest.splits["val"].counts for store in cut])
    assert counts.sum(axis=1).max() - counts.sum(axis=1).min() <= 6
    assert np.ptp(counts, axis=0).max() <= 4


def test_each_image_keeps_its_pixels_its_label_and_its_group(cut: list[PackedStore]) -> None:
    for split in (cut[1].split("train"), cut[1].split("val")):
        pixels = split.gather(np.arange(len(split)))
        assert split.groups is not None
        for place, source in enumerate(split.sources.tolist()):
            index = int(source.removeprefix("image-"))
            assert np.array_equal(pixels[place], PIXELS[index])
            assert (split.labels[place], split.groups[place]) == (index % 2, patient(index))


def test_a_fold_is_normalised_by_its_own_training_images(cut: list[PackedStore]) -> None:
    assert len({store.manifest.mean for store in cut}) == FOLDS
    for store in cut:
        train = store.split("train")
        pixels = train.gather(np.arange(len(train))).reshape(-1, 3) / 255
        assert np.allclose(store.manifest.mean, pixels.mean(axis=0))
        assert np.allclose(store.manifest.std, pixels.std(axis=0))
        assert store.manifest.info.train_counts == tuple(np.bincount(train.labels).tolist())


def test_the_test_split_is_the_same_and_stays_sealed(parent: PackedStore, cut: list[PackedStore]) -> None:
    for store in cut:
        assert store.manifest.splits["test"] == parent.manifest.splits["test"]
        store.verify(["train", "val", "test"])
        with pytest.raises(DataError, match="sealed"):
            store.split("test")  # type: ignore[arg-type]


def test_each_fold_has_a_fingerprint_and_a_folder_of_its_own(
    parent: PackedStore, cut: list[PackedStore]
) -> None:
    manifests = [store.manifest for store in (parent, *cut)]
    assert len({manifest.fingerprint for manifest in manifests}) == FOLDS + 1
    assert all(store.folder.name.endswith(store.manifest.fingerprint[:16]) for store in cut)
    assert "Fold 2 of 4" in cut[1].manifest.findings[-1].message


def test_all_folds_together_take_the_room_of_one(cut: list[PackedStore]) -> None:
    images = [path for store in cut for path in store.folder.glob("*/images-*.npy")]
    inodes = Counter(path.stat().st_ino for path in images if path.parent.name != "test")
    assert set(inodes.values()) == {FOLDS}, "each file of pixels stands in every fold"


def test_where_files_cannot_be_linked_they_are_copied(
    tmp_path: Path, cut: list[PackedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("this file system has no hard links")

    monkeypatch.setattr(os, "link", refuse)
    again = fold_store(packed(tmp_path, group=patient), FOLDS, 2)
    assert again.manifest.model_dump() == cut[1].manifest.model_dump()
    again.verify(["train", "val", "test"])


def test_a_fold_that_was_removed_is_made_again_the_same_from_the_others(
    tmp_path: Path, cut: list[PackedStore]
) -> None:
    parent = packed(tmp_path, group=patient)
    gone = fold_store(parent, FOLDS, 3).folder
    assert len(list(tmp_path.glob("made-*/manifest.json"))) == FOLDS + 1, "one cutting makes all"
    shutil.rmtree(gone)
    (tmp_path / f".{parent.name}.parts").mkdir()  # as a killed process leaves it
    (tmp_path / f".{gone.name}.x1").mkdir()
    assert fold_store(parent, FOLDS, 3).manifest.model_dump() == cut[2].manifest.model_dump()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_damage_in_a_fold_is_not_carried_over_into_another(tmp_path: Path) -> None:
    parent = packed(tmp_path, group=patient)
    shutil.rmtree(fold_store(parent, FOLDS, 1).folder)
    damaged = fold_store(parent, FOLDS, 2).folder / "val" / "images-00000.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=r"val/images-00000\.npy is missing or damaged"):
        fold_store(parent, FOLDS, 1)


def test_two_at_once_cut_once(tmp_path: Path) -> None:
    parent = packed(tmp_path, group=patient)
    cuts: list[str] = []

    class Count(progress.LogListener):
        def track(self, title: str, total: int | None, unit: str) -> Any:
            cuts.append(title)
            return super().track(title, total, unit)

    def make(number: int) -> str:
        with progress.listening(Count()):
            return fold_store(parent, FOLDS, number).manifest.fingerprint

    with ThreadPoolExecutor(FOLDS) as pool:
        assert len(set(pool.map(make, range(1, FOLDS + 1)))) == FOLDS
    assert cuts.count("Cutting folds") == 1


def test_an_official_val_split_is_cut_anew_with_train(tmp_path: Path) -> None:
    official = packed(tmp_path, split=lambda index: ("train", "train", "val", "test")[index % 4])
    store = fold_store(official, 2, 1)
    assert {int(source.removeprefix("image-")) % 4 for source in store.split("val").sources} == {0, 1, 2}


def test_copies_of_an_image_without_a_group_stay_in_one_fold(tmp_path: Path) -> None:
    store = fold_store(packed(tmp_path), 2, 1)
    held = {int(source.removeprefix("image-")) for source in store.split("val").sources}
    trained = {int(source.removeprefix("image-")) for source in store.split("train").sources}
    pairs = [{index, index + 10} for index in range(140, 150) if index in held | trained]
    assert pairs
    assert all(pair <= held or pair <= trained for pair in pairs)


def test_turned_copies_stay_in_one_fold_though_their_groups_differ(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (120, 6, 6, 3), np.uint8)
    pixels[60:] = np.rot90(pixels[:60], axes=(1, 2))
    rows = [
        Row(label=i % 2, source=str(i), group=f"g{i}", split=("train", "val", "test")[(i + i // 60) % 3])
        for i in range(120)
    ]
    samples = Samples(classes=("no", "yes"), rows=rows, read=pixels.__getitem__)
    recipe = Recipe(
        dataset={"name": "turned"},
        dataset_version=1,
        raw_digest="0",
        preprocess=[],
        split={"val": 0.2, "test": 0.2, "seed": 0},
    )
    parent = PackedStore(pack(recipe, Facts(), lambda: samples, (), tmp_path))
    parted = [set(map(int, split.sources)) for split in (parent.split("train"), parent.split("val"))]
    assert any(i in parted[0] and i + 60 in parted[1] for i in range(60))
    assert set(parent.split("train").copies.tolist()) == {source % 60 for source in parted[0]}
    store = fold_store(parent.folder, 2, 1)
    train, val = (set(split.copies.tolist()) for split in (store.split("train"), store.split("val")))
    assert not train & val
    checks = {finding.check for finding in store.manifest.findings}
    assert "near_copies_in_test" in checks
    assert not {"near_copies_in_val", "copies_in_val"} & checks


def test_weights_that_differ_in_one_split_alone_are_kept(tmp_path: Path) -> None:
    official = packed(
        tmp_path,
        split=lambda index: ("train", "train", "val", "test")[index % 4],
        weight=lambda index: 1.0 + index % 4,
    )
    assert PackedStore(official).split("val").weights is None
    train = fold_store(official, 2, 2).split("train")
    assert train.weights is not None
    weights = zip(train.weights.tolist(), train.sources.tolist(), strict=True)
    # Those of val were alike, and so none was kept.
    assert {weight - int(source.removeprefix("image-")) % 4 for weight, source in weights} == {1.0, -1.0}


def test_another_seed_cuts_otherwise(tmp_path: Path, cut: list[PackedStore]) -> None:
    keys = np.array([patient(index) for index in range(160)])
    one, other = (deal_folds(keys, np.arange(160) % 2, ("a", "b"), folds=4, seed=seed) for seed in (0, 1))
    assert (one != other).mean() > 0.3


# ── Dealing ─────────────────────────────────────────────────────────────────────────────────────

GROUPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=60)
"""A main class, how many images of it, and how many of another one."""


def dealt(groups: list[tuple[int, int, int]], count: int, seed: int) -> tuple[list[str], Any, Any]:
    keys = [f"g{number}" for number, (_, size, extra) in enumerate(groups) for _ in range(size + extra)]
    labels = np.array(
        [one for main, size, extra in groups for one in [main] * size + [(main + 1) % 3] * extra]
    )
    return keys, labels, deal_folds(np.array(keys), labels, ("a", "b", "c"), folds=count, seed=seed)


@settings(max_examples=60)
@given(GROUPS, st.integers(2, 6), st.integers(0, 99))
def test_groups_stay_whole_and_each_fold_has_each_class_or_it_is_refused(
    groups: list[tuple[int, int, int]], count: int, seed: int
) -> None:
    with suppress(DataError):
        keys, labels, fold = dealt(groups, count, seed)
        assert len(set(zip(keys, fold.tolist(), strict=True))) == len(groups)
        for label in set(labels.tolist()):
            assert set(fold[labels == label].tolist()) == set(range(count))


@settings(max_examples=60)
@given(GROUPS, st.integers(2, 6), st.integers(0, 99))
def test_nothing_is_refused_where_each_class_has_as_many_groups_of_its_own_as_there_are_folds(
    groups: list[tuple[int, int, int]], count: int, seed: int
) -> None:
    pure = [(main, size, 0) for main, size, _ in groups]
    enough = pure + [(main, 1, 0) for main in {main for main, _, _ in pure} for _ in range(count)]
    _, labels, fold = dealt(enough, count, seed)
    for label in set(labels.tolist()):
        assert set(fold[labels == label].tolist()) == set(range(count))


def test_images_without_groups_are_dealt_evenly_class_by_class() -> None:
    labels = np.array([0] * 100 + [1] * 10)
    fold = deal_folds(np.arange(110), labels, ("a", "b"), folds=5, seed=0)
    assert [np.bincount(fold[labels == label]).tolist() for label in (0, 1)] == [[20] * 5, [2] * 5]


def test_images_with_several_labels_are_dealt_evenly_label_by_label() -> None:
    shown = np.random.default_rng(0).random((400, 3)) < (0.5, 0.2, 0.05)
    fold = deal_folds(np.arange(400), shown.astype(np.uint8), ("a", "b", "c"), folds=4, seed=0)
    held = np.stack([shown[fold == part].sum(axis=0) for part in range(4)])
    assert np.ptp(held, axis=0).max() <= 2


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(DataError, match="at most the number of groups in train and val, which is 3"):
        deal_folds(np.array(list("abcabc")), np.zeros(6, int), ("x",), folds=4, seed=0)


def test_a_class_of_fewer_groups_than_folds_is_refused_with_what_would_do() -> None:
    keys = np.array([f"slide-{index // 2}" for index in range(40)])
    labels = np.array([1] * 6 + [0] * 34)
    with pytest.raises(DataError, match=r"'tumour' in 3 groups only. Lower training.folds to 3"):
        deal_folds(keys, labels, ("normal", "tumour"), folds=5, seed=0)
    with pytest.raises(DataError, match="'tumour' in 1 group only. Train without training.folds"):
        deal_folds(keys, (np.arange(40) < 2).astype(int), ("normal", "tumour"), folds=2, seed=0)


def test_images_are_found_in_the_many_small_files_of_several_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(laying, "SHARD_BYTES", 5 * PIXELS[0].nbytes)
    store = fold_store(packed(tmp_path, group=patient), 3, 1)
    assert max(store.manifest.splits["train"].shards) == 5
    train = store.split("train")
    order = np.random.default_rng(1).permutation(len(train))
    expected = PIXELS[[int(source.removeprefix("image-")) for source in train.sources[order].tolist()]]
    assert np.array_equal(train.gather(order), expected)
