"""CIELAB and optical density: known colours, and the way back."""

from __future__ import annotations

import pytest
import torch

from histoflow_plugins._colour_spaces import densities_of, lab_of, rgb_of, rgb_through

LEVELS = torch.arange(0, 256, 15, dtype=torch.float32) / 255
EVERY_COLOUR = torch.cartesian_prod(LEVELS, LEVELS, LEVELS).T.unsqueeze(0)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 255, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 255), (32.2970, 79.1875, -107.8602)),
        ((255, 255, 255), (100, 0, 0)),
        ((119, 119, 119), (50.0344, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_the_primaries_of_srgb_lie_in_cielab_where_tables_have_them(
    rgb: tuple[int, ...], lab: tuple[float, ...]
) -> None:
    found = lab_of(torch.tensor(rgb).view(1, 3, 1) / 255).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), atol=1e-3, rtol=0)


def test_every_colour_comes_back_from_cielab() -> None:
    torch.testing.assert_close(rgb_of(lab_of(EVERY_COLOUR)), EVERY_COLOUR, atol=2e-4, rtol=0)


def test_what_no_screen_can_show_becomes_a_colour_from_0_to_1() -> None:
    beyond = torch.cartesian_prod(*[torch.linspace(-300, 300, 13)] * 3).T.unsqueeze(0)
    shown = rgb_of(beyond)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_every_colour_comes_back_from_its_density() -> None:
    densities = densities_of(EVERY_COLOUR)
    assert densities.isfinite().all()
    torch.testing.assert_close(rgb_through(densities), EVERY_COLOUR, atol=1e-5, rtol=0)


def test_glass_has_no_density_and_half_the_light_that_of_its_logarithm() -> None:
    glass, half = torch.full((1, 3, 1), 239 / 255), torch.full((1, 3, 1), 119 / 255)
    torch.testing.assert_close(densities_of(glass), torch.zeros(1, 3, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(densities_of(half), torch.full((1, 3, 1), 0.693147))
