"""The batch at (seed, epoch, step) follows from those three numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from histoflow import DataError, Facts, Row, Samples
from histoflow.data.batches import Augment, EvalBatches, TrainBatches, _weights, stratified_share
from histoflow.data.packing import Recipe, pack
from histoflow.data.pixels import Pixels, resized
from histoflow.data.store import PackedStore, SplitReader
from histoflow.engine.batch import Batch
from histoflow.engine.plan import Residence

CPU = torch.device("cpu")
PIXELS = Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), device=CPU)


@pytest.fixture
def store(tmp_path: Path) -> PackedStore:
    return packed(tmp_path)


def packed(folder: Path, shards: int = 1, weights: Sequence[float] = (9.0, *[1.0] * 8) * 10) -> PackedStore:
    """54 images to train on, every ninth of the rare class."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 6, 5, 3), np.uint8)
    rows = [
        Row(label=int(index % 9 == 0), source=str(index), split=split, weight=weight)
        for index, (split, weight) in enumerate(
            zip(("train", "train", "train", "val", "test") * 18, weights, strict=True)
        )
    ]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: pixels[index])
    recipe = Recipe(
        dataset={"name": "made"},
        dataset_version=1,
        raw_digest="",
        preprocess=[],
        split={"val": 0.1, "test": 0.1, "seed": 0},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("histoflow.data.laying.SHARD_BYTES", -(-54 // shards) * pixels[0].nbytes)
        patch.setattr("histoflow.data.chunks.CHUNK_IMAGES", -(-len(pixels) // shards))
        return PackedStore(pack(recipe, Facts(), lambda: made, (), folder))


def noise(images: Tensor, generator: Generator) -> Tensor:
    return images + torch.rand(images.shape, generator=generator)


def batches(store: PackedStore, seed: int = 0, pixels: Pixels = PIXELS, **settings: object) -> TrainBatches:
    options = {"batch_size": 16, "augment": [noise], **settings}
    return TrainBatches(store.split("train"), pixels, seed=seed, **options)  # type: ignore[arg-type]


def kept(batches: Iterable[Batch]) -> list[Batch]:
    """Batches that stay valid when the next one comes."""
    return [Batch(*(column if column is None else column.clone() for column in batch)) for batch in batches]


def same(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(
        a is b if a is None or b is None else torch.equal(a, b)
        for batch, again in zip(one, other, strict=True)
        for a, b in zip(batch, again, strict=True)
    )


def test_the_same_numbers_give_the_same_batch_whatever_came_before(store: PackedStore) -> None:
    undisturbed = batches(store)
    list(undisturbed.epoch(1))
    torch.manual_seed(3)
    assert same(undisturbed.epoch(2), batches(store).epoch(2))


@pytest.mark.parametrize(("first", "second"), [((0, 1), (0, 2)), ((0, 1), (1, 1))], ids=["epoch", "seed"])
def test_another_epoch_or_seed_gives_another_batch(
    store: PackedStore, first: tuple[int, int], second: tuple[int, int]
) -> None:
    one, other = (next(iter(batches(store, seed).epoch(epoch)))[0] for seed, epoch in (first, second))
    assert not torch.equal(one, other)


def test_an_epoch_shows_every_training_image_once(store: PackedStore) -> None:
    train = store.split("train")
    seen = torch.cat([batch.images for batch in kept(batches(store, augment=[]).epoch(1))])
    stored = torch.cat([images.clone() for images, _ in EvalBatches(train, PIXELS, 16)])
    assert len(batches(store)) == 4
    assert batches(store).images == 54
    assert [len(batch.labels) for batch in batches(store).epoch(1)] == [16, 16, 16, 6]
    assert torch.equal(torch.unique(seen.flatten(1), dim=0), torch.unique(stored.flatten(1), dim=0))


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(53, [54]), (27, [27, 27]), (100, [54]), (1, [1] * 54), (2, [2] * 27)],
)
def test_a_single_image_left_over_joins_the_batch_before(
    store: PackedStore, batch_size: int, sizes: list[int]
) -> None:
    made = batches(store, batch_size=batch_size)
    found = [len(batch.labels) for batch in made.epoch(1)]
    assert len(made) == len(found)
    assert [made.images_before(step) for step in range(len(sizes) + 1)] == [0, *np.cumsum(sizes)]
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


def test_an_epoch_can_begin_at_any_step(store: PackedStore) -> None:
    whole = kept(batches(store).epoch(2))
    for step in range(4):
        assert same(whole[step:], batches(store).epoch(2, first_step=step))


def test_a_share_is_of_each_class_alike_and_the_same_every_time() -> None:
    labels = np.repeat([0, 1, 2], [1000, 100, 3])
    chosen = stratified_share(labels, 0.2, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [200, 20, 1]
    assert len(np.unique(chosen)) == len(chosen)
    assert np.array_equal(chosen, stratified_share(labels, 0.2, seed=1))
    assert not np.array_equal(chosen, stratified_share(labels, 0.2, seed=2))
    assert np.array_equal(stratified_share(labels, 1, seed=1), np.arange(len(labels)))


def test_a_share_of_images_with_several_labels_keeps_how_common_each_is() -> None:
    chance = np.random.default_rng(0)
    labels = (chance.random((2000, 4)) < (0.5, 0.2, 0.02, 0)).astype(np.uint8)
    labels[7] = (0, 0, 0, 1)
    chosen = stratified_share(labels, 0.25, seed=1)
    assert len(chosen) == len(np.unique(chosen)) == pytest.approx(500, abs=1)
    assert np.allclose(labels[chosen].sum(axis=0)[:3], labels.sum(axis=0)[:3] / 4, atol=4)
    assert 7 in chosen
    assert np.array_equal(chosen, stratified_share(labels, 0.25, seed=1))
    assert not np.array_equal(chosen, stratified_share(labels, 0.25, seed=2))


def test_no_class_is_lost_to_a_small_share() -> None:
    labels = np.repeat([0, 1], [1000, 2])
    assert set(labels[stratified_share(labels, 0.001, seed=0)]) == {0, 1}


# ── Which images ────────────────────────────────────────────────────────────────────────────────


def classes_seen(store: PackedStore, **settings: object) -> float:
    """The share of the rare class in some epochs; a ninth of the stored images are of it."""
    found = torch.cat([batch.labels for e in range(20) for batch in batches(store, **settings).epoch(e)])
    return float(found.double().mean())


def test_the_samplers_draw_classes_as_they_say(store: PackedStore) -> None:
    assert classes_seen(store, sampler="shuffle") == pytest.approx(6 / 54)
    assert classes_seen(store, sampler="balanced") == pytest.approx(0.5)
    assert classes_seen(store, sampler="weighted") == pytest.approx(9 * 6 / (9 * 6 + 48), abs=0.05)
    assert classes_seen(store, sampler="balanced", share=0.5) == pytest.approx(13 / 27)


@pytest.mark.parametrize("sampler", ["shuffle", "balanced", "weighted"])
def test_a_share_is_all_that_is_drawn_from(store: PackedStore, sampler: str) -> None:
    made = batches(store, sampler=sampler, share=0.5)
    drawn = np.concatenate([*made.places(1), *made.places(2)])
    assert made.images == 27
    assert len(np.unique(drawn)) <= 27


def test_weights_are_asked_of_data_without(tmp_path: Path) -> None:
    plain = packed(tmp_path, weights=[1.0] * 90)
    with pytest.raises(
        DataError,
        match=r"may be weighted only where .* Use shuffle or balanced, .*table.*weight_key.*Row\.weight",
    ):
        batches(plain, sampler="weighted")


def test_balanced_is_not_advised_where_images_have_several_labels(tmp_path: Path) -> None:
    plain = packed(tmp_path, weights=[1.0] * 90)
    several = SplitReader(plain.folder / "train", plain.manifest.splits["train"])
    several.__dict__["labels"] = np.eye(2, dtype=np.uint8)[several.labels]
    with pytest.raises(DataError) as refused:
        _weights(several)
    assert "Use shuffle, or give the images weights" in str(refused.value)
    assert "balanced" not in str(refused.value)


def test_a_split_without_images_is_refused(store: PackedStore) -> None:
    empty = SplitReader(store.folder / "val", store.manifest.splits["val"].model_copy(update={"images": 0}))
    with pytest.raises(DataError, match="The val split has no images"):
        TrainBatches(empty, PIXELS, batch_size=4, seed=0)
    with pytest.raises(DataError, match="The val split has no images"):
        EvalBatches(empty, PIXELS, 4)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(16, [16] * 3), (54, [54]), (53, [53]), (27, [27, 27]), (60, [54])]
)
def test_the_last_batch_is_dropped_where_it_is_smaller_than_others(
    store: PackedStore, batch_size: int, sizes: list[int]
) -> None:
    made = batches(store, batch_size=batch_size, drop_last=True)
    assert [len(batch.labels) for batch in made.epoch(1)] == sizes
    assert len(made) == len(sizes)
    assert made.images == sum(sizes)
    assert [made.images_before(step) for step in range(len(sizes) + 1)] == [0, *np.cumsum(sizes)]


# ── Several processes ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("residence", ["host", "stream"])
def test_processes_share_each_batch_without_overlap(store: PackedStore, ranks: int, residence: str) -> None:
    alone = batches(store, residence=residence).places(3)
    parts = [batches(store, residence=residence, rank=rank, ranks=ranks).places(3) for rank in range(ranks)]
    for whole, *shared in zip(alone, *parts, strict=True):
        assert np.array_equal(np.concatenate(shared), whole)
        assert max(map(len, shared)) - min(map(len, shared)) <= 1


def test_processes_draw_augmentation_of_their_own(store: PackedStore) -> None:
    chances = {batches(store, rank=rank, ranks=2).chance(1, 1) for rank in range(2)}
    assert len(chances | {batches(store).chance(1, 1)}) == 3


def test_no_process_is_left_with_a_single_image(store: PackedStore) -> None:
    sizes = [[len(p) for p in batches(store, batch_size=17, rank=r, ranks=2).places(1)] for r in range(2)]
    assert sizes == [[9, 9, 10], [8, 8, 10]]  # 54 = 17 + 17 + 17 + 3, and 3 are not two for each


def test_more_processes_than_a_batch_has_images_are_refused(store: PackedStore) -> None:
    with pytest.raises(DataError, match=r"an image for each of the 4 devices. Got a batch size of 3 and 54"):
        batches(store, batch_size=3, ranks=4)


def test_a_part_of_a_batch_knows_the_images_of_the_whole(store: PackedStore) -> None:
    parts = [
        [batch.of for batch in batches(store, batch_size=17, rank=r, ranks=2).epoch(1)] for r in range(2)
    ]
    assert parts == [[17, 17, 20], [17, 17, 20]]
    assert {batch.of for batch in batches(store).epoch(1)} == {None}


@pytest.mark.parametrize("ranks", [2, 4, 18])
def test_processes_share_a_split_in_its_order(store: PackedStore, ranks: int) -> None:
    split = store.split("val")
    parts = [EvalBatches(split, PIXELS, 4, rank=rank, ranks=ranks) for rank in range(ranks)]
    labels = [[labels for _, labels in part] for part in parts]
    assert torch.equal(
        torch.cat([some for part in labels for some in part]), torch.from_numpy(np.array(split.labels))
    )
    assert [len(part) for part in parts] == [len(some) for some in labels]


def test_fewer_images_than_processes_to_validate_on_are_refused(store: PackedStore) -> None:
    with pytest.raises(
        DataError, match=r"The val split must have an image for each of the 19 devices. Got 18"
    ):
        EvalBatches(store.split("val"), PIXELS, 4, ranks=19)


# ── Where the images lie ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shards", [1, 5])
def test_batches_are_the_same_bit_for_bit_wherever_the_images_lie(tmp_path: Path, shards: int) -> None:
    store = packed(tmp_path, shards=shards)
    assert len(store.manifest.splits["train"].shards) == shards
    host = kept(batches(store, mix=swap_halves).epoch(1))
    device = batches(store, mix=swap_halves, residence="device")
    assert device.is_resident
    assert not batches(store).is_resident
    assert same(host, device.epoch(1))


@pytest.mark.parametrize("residence", ["host", "device", "stream"])
def test_evaluation_is_the_same_wherever_the_images_lie(store: PackedStore, residence: Residence) -> None:
    found = [(i.clone(), y) for i, y in EvalBatches(store.split("train"), PIXELS, 20, residence)]
    assert [len(labels) for _, labels in found] == [20, 20, 14]
    whole, labels = next(iter(EvalBatches(store.split("train"), PIXELS, 54)))
    assert torch.equal(torch.cat([images for images, _ in found]), whole)
    assert torch.equal(torch.cat([some for _, some in found]), labels)


def test_a_streamed_epoch_shows_every_image_once_and_nearly_in_stored_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histoflow.data.batches._BLOCK_BYTES", 3 * 90)  # three images of 6 × 5 × 3
    monkeypatch.setattr("histoflow.data.batches._WINDOW_BLOCKS", 4)
    store = packed(tmp_path, shards=5)
    streamed = batches(store, residence="stream", batch_size=15, augment=[])
    for epoch in (1, 2):
        places = list(streamed.places(epoch))
        assert sorted(np.concatenate(places).tolist()) == list(range(54))
        # A window is five of the eighteen blocks; one of them may go round from the end to the beginning.
        assert all(np.count_nonzero(np.diff(np.sort(some)) > 1) <= 5 for some in places[:3])
    assert not same(kept(streamed.epoch(1)), kept(streamed.epoch(2)))
    by_place = store.split("train").gather(np.concatenate(list(streamed.places(1))))
    seen = torch.cat([batch.images for batch in kept(streamed.epoch(1))])
    expected = PIXELS.normalised_bytes(torch.from_numpy(by_place).permute(0, 3, 1, 2))
    assert torch.equal(seen, expected)


def test_a_share_can_be_streamed(store: PackedStore) -> None:
    streamed = batches(store, residence="stream", share=0.5)
    assert len(np.unique(np.concatenate(list(streamed.places(1))))) == 27


def test_the_device_makes_the_batch_that_an_epoch_has(store: PackedStore) -> None:
    made = batches(store, residence="device", early=[roll], mix=swap_halves, side=lambda epoch: 4)
    generator = Generator()
    alone = []
    for step, places in enumerate(made.places(2, first_step=1), start=1):
        generator.manual_seed(made.chance(2, step))
        alone.append(made.make(torch.from_numpy(places), generator, made.side(2)))
    assert same(alone, made.epoch(2, first_step=1))


# ── What is changed ─────────────────────────────────────────────────────────────────────────────


def roll(images: Tensor, generator: Generator) -> Tensor:
    return images.roll(int(torch.randint(5, (1,), generator=generator)), 3)


def swap_halves(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mixes each image with the one before it."""
    shares = torch.rand(len(images), generator=generator)
    partners = torch.arange(len(images)).roll(1)
    own = shares.view(-1, 1, 1, 1)
    return own * images + (1 - own) * images[partners], partners, shares


def test_early_changes_see_bytes_and_then_the_others_floats_by_one_generator(store: PackedStore) -> None:
    seen: list[tuple[str, torch.dtype, int]] = []

    def look(name: str) -> Augment:
        def looking(images: Tensor, generator: Generator) -> Tensor:
            drawn = torch.randint(10**9, (1,), generator=generator)
            seen.append((name, images.dtype, int(drawn)))
            return images

        return looking

    def mix(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        return swap_halves(look("mix")(images, generator), generator)

    made = batches(store, early=[look("early")], augment=[look("late")], mix=mix)
    next(iter(made.epoch(1)))
    one = Generator().manual_seed(made.chance(1, 0))
    expected = [int(torch.randint(10**9, (1,), generator=one)) for _ in range(3)]
    assert seen == [
        ("early", torch.uint8, expected[0]),
        ("late", torch.float32, expected[1]),
        ("mix", torch.float32, expected[2]),
    ]


def test_a_mixed_batch_says_with_what_and_how_much(store: PackedStore) -> None:
    plain = kept(batches(store, augment=[]).epoch(1))[0]
    mixed = next(iter(batches(store, augment=[], mix=swap_halves).epoch(1)))
    assert plain.partners is None
    assert plain.shares is None
    assert mixed.partners is not None
    assert mixed.shares is not None
    assert torch.equal(mixed.labels, plain.labels)
    assert torch.equal(mixed.partners, plain.labels.roll(1))
    own = mixed.shares.view(-1, 1, 1, 1)
    # Mixing and normalising are linear, so they may change places.
    assert torch.allclose(mixed.images, own * plain.images + (1 - own) * plain.images.roll(1, 0), atol=1e-5)


def test_images_grow_with_the_epochs(store: PackedStore) -> None:
    made = batches(store, augment=[], side=lambda epoch: None if epoch > 2 else 2 + epoch)
    shapes = [tuple(next(iter(made.epoch(epoch))).images.shape[2:]) for epoch in (1, 2, 3)]
    assert shapes == [(4, 3), (5, 4), (6, 5)]
    places = next(iter(made.places(1)))
    small = resized(torch.from_numpy(store.split("train").gather(places)).permute(0, 3, 1, 2), 3)
    assert torch.equal(next(iter(made.epoch(1))).images, PIXELS.normalised_bytes(small))


def test_batches_lie_channels_last_in_memory(store: PackedStore) -> None:
    for settings in ({}, {"augment": []}, {"mix": swap_halves}):
        images = next(iter(batches(store, **settings).epoch(1))).images
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)


# ── On a GPU ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("residence", ["host", "device", "stream"])
def test_a_gpu_gets_the_batches_of_the_cpu(store: PackedStore, residence: Residence) -> None:
    on_gpu = Pixels(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), device=torch.device("cuda"))
    for side in (None, 4):
        settings = {"augment": [], "residence": residence, "side": lambda epoch, side=side: side}
        here, there = batches(store, **settings), batches(store, pixels=on_gpu, **settings)
        level = 0.02 if side else 1e-5
        for expected, found in zip(here.epoch(1), there.epoch(1), strict=True):
            assert found.images.device.type == found.labels.device.type == "cuda"
            assert torch.allclose(found.images.cpu(), expected.images, atol=level)
            assert torch.equal(found.labels.cpu(), expected.labels)
