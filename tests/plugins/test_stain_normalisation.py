"""Stains made alike: what is found in an image, what becomes of it, and what is left as it is."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from pydantic import ValidationError

from histoflow import DataInfo, Facts, Row, Samples
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore
from histoflow.errors import ExperimentError
from histoflow.experiment import parse
from histoflow.testing import check_component
from histoflow_plugins._colour_spaces import lab_of
from histoflow_plugins._stain_macenko import stains_of
from histoflow_plugins._stain_step import floats_of
from histoflow_plugins._stain_style import style_in
from histoflow_plugins.stain import (
    MACENKO,
    REINHARD,
    MacenkoParams,
    ReinhardParams,
    build_macenko,
    build_reinhard,
)
from staining import ELSEWHERE, EOSIN, HAEMATOXYLIN, amounts, scene, stained, tiles, unit

BOTH = pytest.mark.parametrize("transform", [MACENKO, REINHARD], ids=lambda t: t.name)
MADE = {"macenko": build_macenko(MacenkoParams()), "reinhard": build_reinhard(ReinhardParams())}


def found_in(image: Any) -> Any:
    found = stains_of(floats_of(image), alpha=1.0, beta=0.15)
    assert found is not None
    return found


@BOTH
def test_contract(transform: Any) -> None:
    check_component(transform)
    assert transform.may_decline


# ── Macenko ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stains", [(HAEMATOXYLIN, EOSIN), ELSEWHERE])
def test_the_stains_that_an_image_was_made_of_are_found(stains: Any) -> None:
    found = found_in(stained(amounts(96), *stains))
    assert np.dot(found.haematoxylin, unit(stains[0])) > np.cos(np.radians(3))
    assert np.dot(found.eosin, unit(stains[1])) > np.cos(np.radians(3))
    expected = np.percentile(amounts(96).reshape(-1, 2), 99, axis=0)
    assert found.maxima == pytest.approx(expected, rel=0.1)


def test_an_image_gets_the_stains_of_the_reference() -> None:
    params = MacenkoParams(haematoxylin=ELSEWHERE[0], eosin=ELSEWHERE[1], maxima=(1.5, 1.2))
    found = found_in(build_macenko(params)(scene(96)))
    assert np.dot(found.haematoxylin, unit(ELSEWHERE[0])) > np.cos(np.radians(3))
    assert np.dot(found.eosin, unit(ELSEWHERE[1])) > np.cos(np.radians(3))
    assert found.maxima == pytest.approx((1.5, 1.2), rel=0.05)


def test_an_image_that_is_the_reference_stays_about_as_it_is() -> None:
    image = scene(96)
    found = found_in(image)
    same = MacenkoParams(haematoxylin=found.haematoxylin, eosin=found.eosin, maxima=found.maxima)
    difference = build_macenko(same)(image).astype(int) - image
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize(("name", "fraction"), [("macenko", 20), ("reinhard", 2)])
def test_one_scene_stained_by_two_laboratories_becomes_alike(name: str, fraction: int) -> None:
    amount = amounts(96)
    here, there = stained(amount), stained(0.7 * amount, *ELSEWHERE)
    before = np.abs(here.astype(int) - there).mean()
    after = np.abs(MADE[name](here).astype(int) - MADE[name](there)).mean()
    assert before > 15
    assert after < before / fraction


# ── Reinhard ────────────────────────────────────────────────────────────────────────────────────


def test_means_and_stds_become_those_asked_for() -> None:
    image = stained(amounts(96, glass=0) + 0.4)
    wanted = ReinhardParams(means=(60, 15, -8), stds=(8, 4, 3))
    lab = lab_of(floats_of(build_reinhard(wanted)(image)).flatten(1).unsqueeze(0))[0]
    assert lab.mean(dim=1).tolist() == pytest.approx(wanted.means, abs=0.1)
    assert lab.std(dim=1).tolist() == pytest.approx(wanted.stds, abs=0.1)


@pytest.mark.parametrize("name", MADE)
def test_glass_stays_glass(name: str) -> None:
    image = stained(amounts(96, glass=0.5))
    changed = MADE[name](image)
    assert np.abs(changed[:48].astype(int) - image[:48]).max() <= 1
    assert np.abs(changed[48:].astype(int) - image[48:]).mean() > 10


# ── What cannot be normalised ───────────────────────────────────────────────────────────────────


def flat(*levels: int, side: int = 16) -> Any:
    return np.full((side, side, 3), levels, np.uint8)


def ramp() -> Any:
    return np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


def around(level: int, spread: int) -> Any:
    """A grey, or a black, with the noise of a camera."""
    noise = np.random.default_rng(level).integers(-spread, spread + 1, (64, 64, 3))
    return (level + noise).clip(0, 255).astype(np.uint8)


def speck() -> Any:
    image = flat(245, 243, 246, side=32)
    image[:3, :3] = scene(3)
    return image


HOPELESS = {
    "white": flat(255, 255, 255),
    "black": flat(0, 0, 0),
    "one colour": flat(180, 90, 160),
    "one pixel": flat(180, 90, 160, side=1),
    "greys": ramp(),
    "noisy black": np.random.default_rng(0).integers(0, 6, (64, 64, 3)).astype(np.uint8),
    "nearly black red": np.random.default_rng(0).integers(0, 8, (64, 64, 3), np.uint8)
    * flat(1, 0, 0)[:1, :1],
    "grey of two levels more or less": around(128, 2),
    "grey of six levels more or less": around(128, 6),
    "grey of thirty levels more or less": around(180, 30),
    "noisy greys": ramp().repeat(4, axis=0).repeat(4, axis=1) // 2 + around(60, 3),
    "hardly any tissue": speck(),
    "one channel": ramp()[:, :, :1],
    "four channels": np.concatenate([scene(16), ramp()[:, :, :1]], axis=2),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("image", HOPELESS.values(), ids=HOPELESS)
def test_what_cannot_be_normalised_is_given_back_itself(name: str, image: Any) -> None:
    original = image.copy()
    assert MADE[name](image) is image
    assert np.array_equal(image, original)


def test_one_stain_alone_is_not_taken_for_two() -> None:
    amount = amounts(48)
    amount[:, :, 1] = 0
    image = stained(amount)
    assert MADE["macenko"](image) is image


def test_faint_contrast_is_not_blown_up() -> None:
    image = np.random.default_rng(0).integers(150, 153, (32, 32, 3)).astype(np.uint8)
    assert MADE["reinhard"](image) is image


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=150)
@given(image=tiles())
def test_no_tile_whatever_makes_it_fail(name: str, image: Any) -> None:
    original = image.copy()
    changed = MADE[name](image)
    assert changed.dtype == np.uint8
    assert changed.shape == image.shape
    assert np.array_equal(image, original)
    batched, done = MADE[name].batched(floats_of(image).unsqueeze(0))
    assert batched.isfinite().all()
    assert (changed is image) == (image.min() == image.max() or not bool(done))


@pytest.mark.parametrize("name", MADE)
def test_what_was_left_as_it_came_is_packed_so_and_counted(name: str, tmp_path: Path) -> None:
    came = [scene(16, index) for index in range(60)]
    hopeless = {7: flat(255, 255, 255), 20: flat(0, 0, 0), 33: ramp()}
    for index, image in hopeless.items():
        came[index] = image
    rows = [Row(label=index % 2, source=str(index)) for index in range(60)]
    samples = Samples(classes=("no", "yes"), rows=rows, read=lambda index: came[index])
    of = {"dataset": {"name": "made"}, "preprocess": [], "split": {"val": 0.2, "test": 0.2, "seed": 0}}
    recipe = Recipe(dataset_version=1, raw_digest="", **of)
    steps = (np.copy, MADE[name])
    store = PackedStore(pack(recipe, Facts(), lambda: samples, steps, tmp_path, may_decline={1: name}))
    (found,) = (one for one in store.manifest.findings if one.check == f"unchanged_by_{name}")
    assert (found.images, found.examples) == (3, ("7", "20", "33"))
    assert f"3 images were left by {name} as they came" in found.message
    for split in (store.split("train"), store.split("val"), store.unseal_test()):
        for index, image in zip(map(int, split.sources), split.gather(np.arange(len(split))), strict=True):
            assert np.array_equal(image, came[index]) == (index in hopeless)


# ── One by one and batched ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MADE)
def test_a_batch_becomes_what_its_images_become_one_by_one(name: str) -> None:
    images = [
        scene(16, 0),
        flat(255, 255, 255),
        scene(16, 1),
        flat(0, 0, 0),
        stained(amounts(16, 2), *ELSEWHERE),
    ]
    batch = torch.stack([floats_of(image) for image in images])
    original = batch.clone()
    for layout in (torch.contiguous_format, torch.channels_last):
        results, done = MADE[name].batched(batch.contiguous(memory_format=layout))
        assert done.tolist() == [True, False, True, False, True]
        for result, image in zip(results, images, strict=True):
            levels = (255 * result).round().numpy().transpose(1, 2, 0)
            assert np.abs(levels - MADE[name](image)).max() <= 1
    assert torch.equal(batch, original)
    assert torch.equal(results[1], batch[1])
    assert torch.equal(results[3], batch[3])


@pytest.mark.parametrize("name", MADE)
def test_a_batch_of_none_is_no_problem(name: str) -> None:
    images, done = MADE[name].batched(torch.zeros(0, 3, 8, 8))
    assert images.shape == (0, 3, 8, 8)
    assert done.shape == (0,)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_batch_of_any_precision_comes_back_in_its_own(name: str, kind: torch.dtype) -> None:
    batch = torch.stack([floats_of(scene(32, seed)) for seed in range(2)]).to(kind)
    found, done = MADE[name].batched(batch)
    expected, _ = MADE[name].batched(batch.float())
    assert done.all()
    assert found.dtype == kind
    torch.testing.assert_close(found.float(), expected, atol=0.004, rtol=0)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_pixel_that_is_no_number_harms_only_its_own_image(name: str, wrong: float) -> None:
    batch = torch.stack([floats_of(scene(16, seed)) for seed in range(3)])
    spoilt = batch.clone()
    spoilt[1, 0, 9, 9] = wrong
    expected, _ = MADE[name].batched(batch)
    found, done = MADE[name].batched(spoilt)
    assert done.tolist() == [True, False, True]
    assert torch.equal(found[::2], expected[::2])
    assert torch.equal(found[1].nan_to_num(7.0), spoilt[1].nan_to_num(7.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MADE)
def test_a_gpu_gives_what_the_processor_gives(name: str) -> None:
    batch = torch.stack([floats_of(scene(64, seed)) for seed in range(8)])
    expected, done = MADE[name].batched(batch)
    found, found_done = MADE[name].batched(batch.cuda())
    assert torch.equal(found_done.cpu(), done)
    torch.testing.assert_close(found.cpu(), expected, atol=2 / 255, rtol=0)


@pytest.mark.parametrize("name", MADE)
def test_another_process_does_the_same(name: str) -> None:
    again = pickle.loads(pickle.dumps(MADE[name]))
    assert again == MADE[name]
    assert np.array_equal(again(scene()), MADE[name](scene()))


@pytest.mark.parametrize("name", MADE)
def test_an_image_may_lie_in_memory_in_any_way(name: str) -> None:
    image = scene()
    image.flags.writeable = False
    turned = np.ascontiguousarray(image[::-1, ::-1])
    assert np.array_equal(MADE[name](turned)[::-1, ::-1], MADE[name](image))
    assert np.array_equal(MADE[name](image[::-1, ::-1]), MADE[name](turned))


# ── An image as the reference ───────────────────────────────────────────────────────────────────


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "reference.png"
    Image.fromarray(stained(amounts(64, 5), *ELSEWHERE)).save(path)
    return path


def test_the_stains_of_an_image_can_be_the_reference(target: Path) -> None:
    params = MacenkoParams(target=target)
    assert np.dot(params.haematoxylin, unit(ELSEWHERE[0])) > np.cos(np.radians(3))
    assert np.dot(params.eosin, unit(ELSEWHERE[1])) > np.cos(np.radians(3))


def test_the_colours_of_an_image_can_be_the_reference(target: Path) -> None:
    params = ReinhardParams(target=target)
    found = style_in(floats_of(build_reinhard(params)(scene(64))))
    assert found[0] == pytest.approx(params.means, abs=1.5)
    assert found[1] == pytest.approx(params.stds, abs=1.5)


@BOTH
def test_an_experiment_keeps_the_reference_when_its_file_has_gone(transform: Any, target: Path) -> None:
    chosen = {"dataset": "tissue", "preprocess": [{"name": transform.name, "target": str(target)}]}
    experiment = parse({"name": "stains", **chosen})
    target.unlink()
    again = parse(experiment.to_data())
    assert again == experiment
    assert again.preprocess[0] != transform.params()


@BOTH
def test_a_reference_that_is_not_there_is_a_mistake_of_the_experiment(transform: Any, tmp_path: Path) -> None:
    step = {"name": transform.name, "target": str(tmp_path / "none.png")}
    with pytest.raises(ExperimentError, match="target must be an image of stained tissue. Got .*none.png"):
        parse({"name": "stains", "dataset": "tissue", "preprocess": [step]})


@BOTH
def test_a_reference_without_stains_is_refused(transform: Any, tmp_path: Path) -> None:
    Image.fromarray(flat(255, 255, 255)).save(tmp_path / "white.png")
    with pytest.raises(ValidationError, match="target must be an image of"):
        transform.params(target=tmp_path / "white.png")


def test_a_reference_stands_alone(target: Path) -> None:
    with pytest.raises(ValidationError, match="must stand alone or with all of .* Got maxima"):
        MacenkoParams(target=target, maxima=(1, 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"haematoxylin": (0.2, 0.8, 0.5), "eosin": (0.21, 0.8, 0.5)},
        {"haematoxylin": (0, 0, 0)},
        {"eosin": (0.2, 0.8)},
        {"maxima": (1.0, 0)},
        {"alpha": 50},
        {"beta": 0},
        {"tissue": 1.5},
        {"target": 3},
    ],
)
def test_macenko_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MacenkoParams(**wrong)


@pytest.mark.parametrize("wrong", [{"means": (-1, 0, 0)}, {"stds": (5, 5, 0)}, {"tissue": -0.1}])
def test_reinhard_has_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReinhardParams(**wrong)


@BOTH
def test_grey_data_are_refused(transform: Any) -> None:
    grey = DataInfo(task="binary", classes=("a", "b"), channels=1, size=(8, 8))
    (complaint,) = transform.check(transform.params(), grey)
    assert f"'{transform.name}' takes images of 3 channels" in complaint
    assert "Got 1." in complaint
