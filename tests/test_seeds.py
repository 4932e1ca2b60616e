"""Seeds follow from a place in the run alone."""

from __future__ import annotations

from histoflow.seeds import derive, fraction


def test_the_same_place_has_the_same_seed_on_every_machine() -> None:
    assert derive(0, 1, 2) == derive(0, 1, 2) == 4080843073426809076
    assert fraction(0, "slide-001") == fraction(0, "slide-001") == 0.725185230991818


def test_other_places_have_other_seeds() -> None:
    places = {derive(seed, epoch, step) for seed in range(20) for epoch in range(20) for step in range(20)}
    assert len(places) == 20**3
    assert derive(0, 1, 2) != derive(0, 2, 1)
    assert derive(0) != derive(0, 0)


def test_seeds_fit_torch_and_numpy() -> None:
    assert all(0 <= derive(seed, 1) < 2**63 for seed in (0, 1, 2**62, 2**63 - 1))


def test_fractions_spread_evenly() -> None:
    drawn = sorted(fraction(3, str(number)) for number in range(10_000))
    assert all(abs(value - rank / 10_000) < 0.02 for rank, value in enumerate(drawn))
    assert fraction(1, "a") != fraction(2, "a")
