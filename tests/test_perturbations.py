"""What is done to images to see how a model bears it: bounded, ordered by grade, the same every time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from histoflow.robustness.perturbations import (
    Chance,
    blurred,
    brightened,
    compressed,
    conditions,
    contrasted,
    noisy,
    stained,
    units,
)

DENSITY = torch.tensor([0.65, 0.70, 0.29]), torch.tensor([0.07, 0.99, 0.11])
KINDS = ["blur", "JPEG", "brightness", "noise"]


def chance_of(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.ones(shape[0])
    directions[1::2] = -1
    return Chance(directions, torch.randn(shape, generator=generator))


def tissue(count=6, channels=3, side=32):
    """Smooth colours with fine texture, neither of them near black or white."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((count, channels, 4, 4), generator=generator)
    fine = torch.rand((count, channels, side, side), generator=generator)
    return 0.2 + 0.4 * torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") + 0.2 * fine


def pure(dye, amount=0.8):
    """An image of one dye alone."""
    return (-amount * dye / dye.norm()).exp().view(1, 3, 1, 1).expand(1, 3, 16, 16)


@given(
    channels=st.sampled_from([1, 2, 3]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    filling=st.sampled_from(["white", "black", "grey", "chance"]),
    as_bytes=st.booleans(),
)
@settings(max_examples=25)
def test_any_image_stays_an_image(channels, height, width, filling, as_bytes):
    shape = (2, channels, height, width)
    chance = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    level = {"white": torch.ones(shape), "black": torch.zeros(shape), "grey": torch.full(shape, 0.5)}
    images = level.get(filling, chance)
    images = (images * 255).to(torch.uint8) if as_bytes else images
    before = images.clone()
    for condition in conditions(channels):
        changed = condition.change(images, chance_of(shape))
        assert (changed.shape, changed.dtype) == (shape, torch.float32)
        assert ((changed >= 0) & (changed <= 1)).all()  # which no NaN is
    assert torch.equal(images, before)


@pytest.mark.parametrize(("channels", "first"), [(3, "stain"), (1, "contrast")])
def test_five_kinds_in_three_grades_each_further_from_the_image_than_the_one_before(channels, first):
    images = tissue(channels=channels)
    found = {}
    for condition in conditions(channels):
        changed = condition.change(images, chance_of(images.shape))
        found.setdefault(condition.kind, []).append((condition.grade, float((changed - images).abs().mean())))
    assert list(found) == [first, *KINDS]
    for steps in found.values():
        assert [grade for grade, _ in steps] == ["mild", "medium", "strong"]
        assert 0.002 < steps[0][1] < steps[1][1] < steps[2][1]


def test_the_same_images_come_out_every_time_and_from_every_batch():
    images = tissue()
    chance = chance_of(images.shape)
    for condition in conditions(3):
        whole = condition.change(images, chance)
        parts = [
            condition.change(images[some], Chance(*(drawn[some] for drawn in chance)))
            for some in (slice(0, 2), slice(2, 6))
        ]
        assert torch.allclose(whole, torch.cat(parts), atol=1e-6)
        assert torch.equal(whole, condition.change(images, chance))


def test_bytes_and_floats_of_one_image_are_changed_alike():
    images = (tissue() * 255).round().to(torch.uint8)
    chance = chance_of(images.shape)
    for condition in conditions(3):
        assert torch.equal(condition.change(images, chance), condition.change(units(images), chance))


def test_a_stain_is_made_denser_by_its_share_and_the_other_fainter():
    for dye, sign in zip(DENSITY, (1, -1), strict=True):
        before, after = -pure(dye).log(), -stained(pure(dye), torch.tensor([0.2])).log()
        tint = 0.25 * 0.2 * (DENSITY[0] / DENSITY[0].norm() - DENSITY[1] / DENSITY[1].norm())
        expected = (1 + sign * 0.2) * before + tint.view(1, 3, 1, 1)
        assert torch.allclose(after, expected.clamp(min=0), atol=1e-5)


def test_no_shift_leaves_images_as_they_are():
    images, nothing = tissue(), torch.zeros(6)
    assert torch.allclose(stained(images, nothing), images, atol=1e-5)
    assert torch.equal(brightened(images, nothing), images)
    assert torch.allclose(contrasted(images, nothing), images, atol=1e-6)
    assert torch.equal(noisy(images, torch.ones_like(images), 0.0), images)


def test_each_image_is_shifted_by_its_own_share():
    images, shares = tissue(2), torch.tensor([0.3, -0.3])
    for change in (stained, brightened, contrasted):
        together = change(images, shares)
        for index in range(2):
            alone = change(images[index : index + 1], shares[index : index + 1])
            assert torch.allclose(together[index], alone[0], atol=1e-6)
    brighter, darker = brightened(images, shares).mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    assert brighter > 0.05
    assert darker < -0.05


def test_blur_spreads_a_point_by_its_deviation_and_keeps_flat_images():
    point = torch.zeros(1, 3, 31, 31)
    point[..., 15, 15] = 1
    spread = blurred(point, 2.0)[0, 0]
    offsets = torch.arange(31) - 15.0
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(dim=0) * offsets**2).sum() == pytest.approx(4, rel=0.05)
    flat = torch.full((1, 3, 16, 16), 0.7)
    assert torch.allclose(blurred(flat, 2.0), flat, atol=1e-6)


def test_jpeg_is_that_of_pillow():
    import io

    import numpy as np
    from PIL import Image

    image = (tissue(1) * 255).round().to(torch.uint8)
    stored = io.BytesIO()
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(stored, "JPEG", quality=40)
    read = torch.from_numpy(np.array(Image.open(stored))).permute(2, 0, 1)
    assert torch.equal((compressed(image, 40)[0] * 255).round().to(torch.uint8), read)
