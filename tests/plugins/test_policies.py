"""The random policy: as many changes as asked for, as far as asked for, other ones for each image."""

from __future__ import annotations

import pytest
import torch

from augmenting import augmented, images
from histoflow_plugins.policies import RANDOM_POLICY, RandomPolicyParams, _posterized, _strengths


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_image_draws_as_many_changes_as_asked_for(channels: int, number: int) -> None:
    params = RandomPolicyParams(number=number, magnitude=1)
    strengths = _strengths(images(300, channels), params, torch.Generator().manual_seed(0))
    drawn = torch.stack([amount.flatten() != 0 for amount in strengths.values()])
    assert (drawn.sum(dim=0) == number).all()
    expected = number / len(strengths)
    assert drawn.float().mean(dim=1).tolist() == pytest.approx([expected] * len(strengths), abs=0.12)
    assert ("stains" in strengths) == (channels == 3)


def test_no_magnitude_changes_next_to_nothing() -> None:
    batch = 0.1 + 0.9 * images()
    unchanged = augmented(RANDOM_POLICY, RandomPolicyParams(magnitude=0), batch)
    torch.testing.assert_close(unchanged, batch, atol=1e-4, rtol=0)


def test_more_magnitude_changes_more() -> None:
    changes = [
        (augmented(RANDOM_POLICY, RandomPolicyParams(magnitude=magnitude), images()) - images()).abs().mean()
        for magnitude in (0.1, 0.4, 1.0)
    ]
    assert changes == sorted(changes)


def test_posterizing_loses_bits_where_it_was_drawn() -> None:
    ramp = torch.linspace(0, 1, 1024).view(1, 1, 32, 32).repeat(3, 1, 1, 1)
    results = _posterized(ramp, torch.tensor([0.0, 4.0, -6.0]).view(3, 1, 1, 1))
    assert [len(result.unique()) for result in results] == [1024, 16, 4]
