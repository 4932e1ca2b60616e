"""Blur and erasing: how far they go, and that an image may be spared."""

from __future__ import annotations

import pytest
import torch

from augmenting import augmented, images
from histoflow_plugins.artefacts import BLUR, ERASE, BlurParams, EraseParams, smoothed


def test_blur_spreads_a_point_as_a_gaussian_does() -> None:
    batch = torch.zeros(2, 1, 31, 31)
    batch[:, :, 15, 15] = 1
    results = smoothed(batch, torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), 2.0)
    assert results.sum(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
    squares = (torch.arange(31) - 15) ** 2
    for dim in (2, 3):
        variances = (results.sum(dim=(1, dim)) * squares).sum(dim=1)
        assert variances.sqrt().tolist() == pytest.approx([1, 2], rel=0.06)


def test_blur_leaves_an_even_image_as_it_is_to_its_edges() -> None:
    even = torch.full((3, 3, 9, 7), 0.3)
    torch.testing.assert_close(augmented(BLUR, BlurParams(sigma=5, probability=1), even), even)


def test_an_image_that_is_smaller_than_the_blur_survives_it() -> None:
    assert augmented(BLUR, BlurParams(sigma=5, probability=1), images(2, height=2, width=1)).shape[2:] == (
        2,
        1,
    )


@pytest.mark.parametrize(("transform", "kind"), [(BLUR, BlurParams), (ERASE, EraseParams)])
def test_some_images_are_spared(transform, kind) -> None:
    batch = images(300)
    changed = (augmented(transform, kind(probability=0.3), batch) != batch).flatten(1).any(dim=1)
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.1)
    assert torch.equal(augmented(transform, kind(probability=0), batch), batch)


def test_erasing_covers_a_box_with_the_mean_of_the_image() -> None:
    batch = images(100, height=20, width=30)
    results = augmented(ERASE, EraseParams(area=0.5, probability=1), batch)
    for before, after in zip(batch, results, strict=True):
        erased = (after != before).any(dim=0)
        rows, columns = erased.any(dim=1), erased.any(dim=0)
        assert int(erased.sum()) == int(rows.sum()) * int(columns.sum())
        mean = before.mean(dim=(1, 2)).view(3, 1)
        torch.testing.assert_close(after[:, erased], mean.expand(3, int(erased.sum())))
    share = (results != batch).any(dim=1).float().mean(dim=(1, 2))
    assert share.max() <= 0.55
    assert share.max() > 0.3
