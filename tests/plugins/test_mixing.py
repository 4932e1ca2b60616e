"""Mixup and cutmix: what an image is made of is what its shares say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from augmenting import augmented, images
from histoflow import Transform
from histoflow.errors import ExperimentError
from histoflow.experiment import parse
from histoflow_plugins.mixing import CUTMIX, MIXUP, CutmixParams, MixupParams

BOTH = pytest.mark.parametrize("transform", [MIXUP, CUTMIX])


def numbered(count: int = 64) -> torch.Tensor:
    """Images that are one even grey each, by which they are known."""
    return (torch.arange(count) / count).view(-1, 1, 1, 1).expand(-1, 3, 10, 14).contiguous()


@BOTH
def test_the_mean_of_an_image_is_shared_out_as_told(transform: Transform[Any]) -> None:
    batch = numbered()
    mixed, partners, shares = augmented(transform, transform.params(alpha=1, probability=1), batch)
    own, other = batch[:, 0, 0, 0], batch[partners][:, 0, 0, 0]
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), shares * own + (1 - shares) * other)


def test_mixup_lets_the_partner_shine_through() -> None:
    batch = images()
    mixed, partners, shares = augmented(MIXUP, MixupParams(), batch)
    weights = shares.view(-1, 1, 1, 1)
    torch.testing.assert_close(mixed, weights * batch + (1 - weights) * batch[partners])


def test_cutmix_pastes_one_box_whose_area_is_the_partners_share() -> None:
    batch = images(100, height=9, width=13)
    mixed, partners, shares = augmented(CUTMIX, CutmixParams(probability=1), batch)
    for result, own, other, share in zip(mixed, batch, batch[partners], shares, strict=True):
        pasted = (result != own).any(dim=0)
        assert torch.equal(result[:, pasted], other[:, pasted])
        assert int(pasted.sum()) == int(pasted.any(dim=0).sum()) * int(pasted.any(dim=1).sum())
        assert float(share) == pytest.approx(1 - int(pasted.sum()) / (9 * 13))


@BOTH
def test_each_image_draws_a_share_of_its_own(transform: Transform[Any]) -> None:
    _, partners, shares = augmented(transform, transform.params(alpha=1, probability=1), images(400))
    assert len(shares.unique()) > 30
    assert sorted(partners.tolist()) == list(range(400))
    assert not (partners == torch.arange(400)).any()


@BOTH
def test_some_images_stay_unmixed(transform: Transform[Any]) -> None:
    batch = images(400, height=30, width=30)
    mixed, _, shares = augmented(transform, transform.params(alpha=5, probability=0.3), batch)
    assert float((shares < 1).float().mean()) == pytest.approx(0.3, abs=0.08)
    assert torch.equal(mixed[shares == 1], batch[shares == 1])


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 5.0])
def test_shares_are_drawn_from_a_beta(alpha: float) -> None:
    *_, shares = augmented(MIXUP, MixupParams(alpha=alpha), torch.zeros(4000, 1, 1, 1))
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


@BOTH
def test_the_same_seed_mixes_alike_and_another_does_not(transform: Transform[Any]) -> None:
    params = transform.params(probability=1)
    (once, _, shares), (again, _, shares_again) = (
        augmented(transform, params, images(), 5) for _ in range(2)
    )
    assert torch.equal(once, again)
    assert torch.equal(shares, shares_again)
    assert not torch.equal(once, augmented(transform, params, images(), 6)[0])


def test_two_that_mix_are_one_too_many() -> None:
    parse({"dataset": "tissue", "augment": ["mixup", "flips"]})
    with pytest.raises(ExperimentError, match=r"augment\.2.*'mixup' mixes images already") as caught:
        parse({"dataset": "tissue", "augment": ["mixup", "flips", "cutmix"]})
    assert "Got 'cutmix' as well" in str(caught.value)
