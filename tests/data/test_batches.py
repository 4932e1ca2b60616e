"""The batch at (seed, epoch, step) follows from those three numbers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from histoflow import Facts, Row, Samples
from histoflow.data.batches import EvalBatches, Pixels, TrainBatches, sample_order, stratified_share
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore

CPU = torch.device("cpu")
PIXELS = Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), device=CPU)


@pytest.fixture
def store(tmp_path: Path) -> PackedStore:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 6, 5, 3), np.uint8)
    rows = [
        Row(label=int(index % 9 == 0), source=str(index), split=split)
        for index, split in enumerate(("train", "train", "train", "val", "test") * 18)
    ]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: pixels[index])
    recipe = Recipe(
        dataset={"name": "made"},
        dataset_version=1,
        raw_digest="",
        preprocess=[],
        split={"val": 0.1, "test": 0.1, "seed": 0},
    )
    return PackedStore(pack(recipe, Facts(), lambda: made, (), tmp_path))


def noise(images: Tensor, generator: Generator) -> Tensor:
    return images + torch.rand(images.shape, generator=generator)


def batches(store: PackedStore, seed: int = 0, **settings: object) -> TrainBatches:
    options = {"batch_size": 16, "augment": [noise], **settings}
    return TrainBatches(store.split("train"), PIXELS, seed=seed, **options)  # type: ignore[arg-type]


def test_the_same_numbers_give_the_same_batch_whatever_came_before(store: PackedStore) -> None:
    undisturbed = batches(store)
    list(undisturbed.epoch(1))
    torch.manual_seed(3)
    for (images, labels), (again, same) in zip(undisturbed.epoch(2), batches(store).epoch(2), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


@pytest.mark.parametrize(("first", "second"), [((0, 1), (0, 2)), ((0, 1), (1, 1))], ids=["epoch", "seed"])
def test_another_epoch_or_seed_gives_another_batch(
    store: PackedStore, first: tuple[int, int], second: tuple[int, int]
) -> None:
    one, other = (next(iter(batches(store, seed).epoch(epoch)))[0] for seed, epoch in (first, second))
    assert not torch.equal(one, other)


def test_an_epoch_shows_every_training_image_once(store: PackedStore) -> None:
    train = store.split("train")
    seen = torch.cat([images for images, _ in batches(store, augment=[]).epoch(1)])
    stored = torch.cat([images for images, _ in EvalBatches(train, PIXELS, 16)])
    assert len(batches(store)) == 4
    assert [len(labels) for _, labels in batches(store).epoch(1)] == [16, 16, 16, 6]
    assert torch.equal(torch.unique(seen.flatten(1), dim=0), torch.unique(stored.flatten(1), dim=0))


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(53, [54]), (27, [27, 27]), (100, [54]), (1, [1] * 54), (2, [2] * 27)],
)
def test_a_single_image_left_over_joins_the_batch_before(
    store: PackedStore, batch_size: int, sizes: list[int]
) -> None:
    made = batches(store, batch_size=batch_size)
    found = [len(labels) for _, labels in made.epoch(1)]
    assert len(made) == len(found)
    assert found == sizes


def test_pixels_are_scaled_to_one_and_normalised_channel_by_channel(store: PackedStore) -> None:
    images, labels = next(iter(EvalBatches(store.split("val"), PIXELS, 4)))
    stored = store.split("val").gather(np.arange(4)) / 255
    expected = (stored - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]
    assert images.shape == (4, 3, 6, 5)
    assert np.allclose(images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    assert labels.tolist() == store.split("val").labels[:4].tolist()


def test_augmentation_sees_pixels_from_0_to_1_before_they_are_normalised(store: PackedStore) -> None:
    ranges: list[tuple[float, float]] = []

    def look(images: Tensor, generator: Generator) -> Tensor:
        ranges.append((float(images.min()), float(images.max())))
        return images

    next(iter(batches(store, augment=[look]).epoch(1)))
    assert 0 <= ranges[0][0] < 0.1 < 0.9 < ranges[0][1] <= 1


def test_the_balanced_sampler_draws_classes_equally_often() -> None:
    labels = np.repeat([0, 1, 2], [9000, 900, 100])
    drawn = labels[sample_order(labels, "balanced", 1)]
    assert len(drawn) == len(labels)
    assert np.allclose(np.bincount(drawn) / len(drawn), 1 / 3, atol=0.02)


def test_the_balanced_sampler_bears_a_class_without_images() -> None:
    assert set(sample_order(np.array([0, 0, 2]), "balanced", 0)) <= {0, 1, 2}


def test_an_epoch_can_begin_at_any_step(store: PackedStore) -> None:
    whole = list(batches(store).epoch(2))
    for (images, labels), (again, same) in zip(whole[2:], batches(store).epoch(2, first_step=2), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)


def test_a_share_is_of_each_class_alike_and_the_same_every_time() -> None:
    labels = np.repeat([0, 1, 2], [1000, 100, 3])
    chosen = stratified_share(labels, 0.2, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [200, 20, 1]
    assert len(np.unique(chosen)) == len(chosen)
    assert np.array_equal(chosen, stratified_share(labels, 0.2, seed=1))
    assert not np.array_equal(chosen, stratified_share(labels, 0.2, seed=2))
    assert np.array_equal(stratified_share(labels, 1, seed=1), np.arange(len(labels)))


def test_no_class_is_lost_to_a_small_share() -> None:
    labels = np.repeat([0, 1], [1000, 2])
    assert set(labels[stratified_share(labels, 0.001, seed=0)]) == {0, 1}
