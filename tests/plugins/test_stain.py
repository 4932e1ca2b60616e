"""Stains made to differ: what jitter does to each stain, and how far drawn colours go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Generator, Tensor

from augmenting import augmented, muted
from histoflow import DataInfo
from histoflow_plugins._colour_spaces import lab_of
from histoflow_plugins.stain import (
    RANDSTAIN,
    REINHARD,
    STAIN_JITTER,
    RandStainParams,
    ReinhardParams,
    StainJitterParams,
    build_randstain,
    build_stain_jitter,
    restained,
)
from staining import amounts, scene, tiles
from staining import stained as stained_by

HAEMATOXYLIN = torch.tensor([0.65, 0.70, 0.29]) / torch.tensor([0.65, 0.70, 0.29]).norm()


def stained(amount: float) -> Tensor:
    """One image of nothing but haematoxylin."""
    return (-amount * HAEMATOXYLIN).exp().view(1, 3, 1, 1).expand(1, 3, 4, 5)


def test_a_factor_makes_its_own_stain_denser_and_no_other() -> None:
    twice = restained(stained(0.4), torch.tensor([[2.0, 1.0, 1.0]]), torch.zeros(1, 3))
    torch.testing.assert_close(twice, stained(0.8))
    torch.testing.assert_close(
        restained(stained(0.4), torch.tensor([[1.0, 3.0, 0.0]]), torch.zeros(1, 3)), stained(0.4)
    )


def test_an_offset_adds_its_stain_everywhere() -> None:
    more = restained(stained(0.4), torch.ones(1, 3), torch.tensor([[0.3, 0.0, 0.0]]))
    torch.testing.assert_close(more, stained(0.7))


def test_no_jitter_of_stains_changes_nothing() -> None:
    params = StainJitterParams(factor=0, offset=0)
    torch.testing.assert_close(augmented(STAIN_JITTER, params, muted()), muted(), atol=1e-5, rtol=0)


def test_each_image_is_stained_by_itself() -> None:
    alike = muted()[:1].expand(8, -1, -1, -1)
    results = augmented(STAIN_JITTER, StainJitterParams(), alike)
    assert len({float(result.sum()) for result in results}) == 8


def test_images_that_are_not_drawn_stay_as_they_are() -> None:
    batch = muted()
    results = augmented(STAIN_JITTER, StainJitterParams(probability=0.5), batch)
    stayed = (results == batch).flatten(1).all(dim=1)
    assert 20 < int(stayed.sum()) < 44


# ── Drawn colours ───────────────────────────────────────────────────────────────────────────────

TISSUE = torch.from_numpy(np.stack([scene(32, seed) for seed in range(4)])).permute(0, 3, 1, 2) / 255


def means_of(images: Tensor) -> Tensor:
    return lab_of(images.flatten(2)).mean(dim=2)


def test_without_strength_all_images_become_what_reinhard_makes_of_them() -> None:
    alike = augmented(RANDSTAIN, RandStainParams(strength=0), TISSUE)
    expected, done = REINHARD.build(ReinhardParams()).batched(TISSUE)  # type: ignore[union-attr]
    assert done.all()
    torch.testing.assert_close(alike, expected)


def test_copies_of_an_image_differ_as_much_as_asked_for() -> None:
    dense = torch.from_numpy(stained_by(amounts(32, glass=0) + 0.4)).permute(2, 0, 1) / 255
    copies = dense.expand(256, -1, -1, -1)
    still = RandStainParams(
        means=(60, 20, -10), stds=(6, 4, 4), mean_stds=(0, 0, 0), std_stds=(0, 0, 0), strength=1
    )
    moving = still.model_copy(update={"mean_stds": (6.0, 4.0, 0.0)})
    assert means_of(augmented(RANDSTAIN, still, copies)).std(dim=0).max() < 0.01
    spread = means_of(augmented(RANDSTAIN, moving, copies)).std(dim=0)
    assert spread[0] == pytest.approx(6, rel=0.12)
    assert spread[1] == pytest.approx(4, rel=0.12)
    assert spread[2] < 0.3


def test_glass_stays_as_it_is_beside_tissue_of_other_colours() -> None:
    results = augmented(RANDSTAIN, RandStainParams(strength=1), TISSUE)
    glass = (slice(None), slice(None), slice(0, 3))
    torch.testing.assert_close(results[glass], TISSUE[glass], atol=1e-3, rtol=0)
    assert (results - TISSUE)[:, :, 3:].abs().mean() > 0.02


@pytest.mark.parametrize("transform", [STAIN_JITTER, RANDSTAIN], ids=lambda t: t.name)
def test_what_is_no_tissue_stays_finite_and_within_0_to_1(transform) -> None:
    noise = torch.rand(1, 3, 16, 16, generator=Generator().manual_seed(0))
    strange = [
        torch.zeros_like(noise),
        torch.ones_like(noise),
        noise,
        noise.round(),
        noise[:, :1].expand(noise.shape),
    ]
    for seed in range(5):
        results = augmented(transform, transform.params(), torch.cat(strange), seed)
        assert ((results >= 0) & (results <= 1)).all()
    single = torch.full((3, 3, 1, 1), 0.4)
    assert torch.isfinite(augmented(transform, transform.params(), single)).all()


COORDINATES, DEVIATIONS, SPREADS = st.floats(-128, 128), st.floats(0, 100), st.floats(0.01, 100)


@st.composite
def augmentations(draw: st.DrawFn) -> Any:
    """Either of the two, with settings up to those that nobody would choose."""
    if draw(st.booleans()):
        factor, offset = draw(st.floats(0, 1)), draw(st.floats(0, 1))
        return build_stain_jitter(StainJitterParams(factor=factor, offset=offset))
    three = {name: draw(st.tuples(*[DEVIATIONS] * 3)) for name in ("mean_stds", "std_stds")}
    means = (draw(st.floats(0, 100)), draw(COORDINATES), draw(COORDINATES))
    stds = draw(st.tuples(*[SPREADS] * 3))
    strength = draw(st.floats(0, 2))
    return build_randstain(RandStainParams(means=means, stds=stds, strength=strength, **three))


@settings(max_examples=80)
@given(
    tile=tiles(),
    augment=augmentations(),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
def test_no_tile_and_no_setting_makes_them_fail(tile, augment, seed: int, kind: torch.dtype) -> None:
    images = torch.from_numpy(tile).permute(2, 0, 1).div(255).to(kind).expand(3, -1, -1, -1)
    results = augment(images, Generator().manual_seed(seed))
    assert (results.shape, results.dtype) == (images.shape, kind)
    assert ((results >= 0) & (results <= 1)).all()


def test_what_has_no_contrast_or_tissue_is_not_given_colours_of_tissue() -> None:
    blank = torch.stack([torch.full((3, 8, 8), level) for level in (0.0, 0.5, 1.0)])
    assert torch.equal(augmented(RANDSTAIN, RandStainParams(), blank), blank)


def test_images_that_are_not_drawn_keep_their_colours() -> None:
    assert torch.equal(augmented(RANDSTAIN, RandStainParams(probability=0), TISSUE), TISSUE)


@pytest.mark.parametrize("transform", [STAIN_JITTER, RANDSTAIN], ids=lambda t: t.name)
def test_stains_are_refused_where_there_are_no_colours(transform) -> None:
    grey = DataInfo(task="binary", classes=("a", "b"), channels=1, size=(8, 8))
    (complaint,) = transform.check(transform.params(), grey)
    assert f"'{transform.name}' takes images of 3 channels" in complaint
    assert "Got 1." in complaint
    assert "color_jitter" in complaint


@pytest.mark.parametrize(
    "wrong",
    [
        {"means": (120, 0, 0)},
        {"means": (50, 0)},
        {"stds": (0, 5, 5)},
        {"mean_stds": (-1, 0, 0)},
        {"strength": 3},
    ],
)
def test_drawn_colours_have_bounds(wrong) -> None:
    with pytest.raises(ValidationError):
        RandStainParams(**wrong)
