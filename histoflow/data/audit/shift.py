"""Whether the splits look alike: where they do, a score on one predicts the score on another.

A plain classifier is asked to tell images of one split from those of another by colour, texture and
sharpness, and is judged by its AUC on images (of other groups, where there are groups) that it was not
fitted on. 0.5 is as good as guessing. Where groups are few, two splits that were dealt out honestly can be
told apart as well, for each slide has a stain of its own; so the AUC is held against those of random cuts of
the groups of train and val.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SplitName
from histoflow.data.audit.answer import Answer
from histoflow.data.audit.comparison import Comparison, told
from histoflow.data.audit.differences import differences
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.finding import Finding
from histoflow.data.audit.sampling import some_of
from histoflow.data.audit.separation import Two, separation
from histoflow.data.audit.statistics import Codes, codes_of

MOST = 5_000
"""Images of each split that are looked at."""
_FEWEST = 10
_CUTS, _FEWEST_CUTS, _MOST_IN_CUTS = 29, 14, 1_000
"""How many random cuts are made, how many at least, and how many images of train and of val they are of."""
_WORTH_CUTS = 0.6
"""An AUC from which on it is asked what random cuts come to."""
_PAIRS: tuple[tuple[SplitName, SplitName], ...] = (("train", "val"), ("val", "test"), ("train", "test"))

Floats = NDArray[np.float64]


def check(examined: Examined) -> Iterator[Answer]:
    """One answer for each two splits."""
    groups = _groups(examined)
    for one, other in _PAIRS:
        yield _compare(examined, groups, one, other)


def _groups(examined: Examined) -> Codes:
    """Of each image; where there are no groups, copies are one and other images stand by themselves."""
    count = len(examined.splits)
    if examined.groups is None and examined.copies is not None:
        return np.where(examined.copies < 0, count + np.arange(count), examined.copies)
    return codes_of(examined.groups, count)


def _measurements(examined: Examined, places: Codes) -> dict[str, NDArray[Any]]:
    """All that is measured of the images at these places."""
    return {name: values[places] for name, values in examined.features.items()} | examined.closer(places)


def _families(measurements: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    def measured(name: str) -> Floats:
        values = measurements[name]
        return np.asarray(values, np.float64).reshape(len(values), -1)

    return {
        "colour": np.hstack([measured("mean"), measured("std"), np.sqrt(measured("histogram"))]),
        "texture": measured("texture"),
        "sharpness": measured("sharpness"),
    }


def _compare(examined: Examined, groups: Codes, one: SplitName, other: SplitName) -> Answer:
    sides = [some_of(examined, split, MOST) for split in (one, other)]
    if min(map(len, sides)) < _FEWEST:
        return _answer(f"{one} or {other} has fewer than {_FEWEST} images: too few to compare them.")
    places, two, lone = _two(sides, groups, known=examined.groups is not None)
    measurements = _measurements(examined, places)
    looks = _families(measurements)
    found = separation(np.hstack(list(looks.values())), two)
    if found is None:
        return _answer(f"{one} and {other} have too few images to compare them.")
    cuts = []
    if found.value >= _WORTH_CUTS and two.by_group:
        cuts = _random_cuts(examined, groups, two)
        lone = len(cuts) < _FEWEST_CUTS
    comparison = Comparison(
        splits=(one, other),
        auc=found,
        families={name: area for name, look in looks.items() if (area := separation(look, two))},
        cuts=() if lone else cuts,
        lone=lone,
        differences=differences(measurements, two.second),
    )
    return Answer(
        Finding(
            check="shift",
            message=told(comparison),
            severity=comparison.severity,
            setting="shift",
            figures=comparison.to_data(),
        )
    )


def _two(sides: list[Codes], groups: Codes, *, known: bool) -> tuple[Codes, Two, bool]:
    """Images of both splits, by group where each has several; and whether one of them has a single group.

    Groups that stand on both sides are left aside: they say nothing about others. Where that leaves too
    little, images are taken one by one. Groups that are not ``known`` are images with their copies.
    """
    places = np.concatenate(sides)
    second = np.arange(len(places)) >= len(sides[0])
    by_image = Two(second, np.arange(len(places)), by_group=False)
    of_one, of_other = (np.unique(groups[side]) for side in sides)
    own = ~np.isin(groups[places], np.intersect1d(of_one, of_other))
    counts = [len(np.unique(groups[places[own & (second == side)]])) for side in (False, True)]
    if min(counts) < 2:
        return places, by_image, known and bool(own.all())
    codes = np.unique(groups[places[own]], return_inverse=True)[1]
    return places[own], Two(second[own], codes, by_group=known), False


def _random_cuts(examined: Examined, groups: Codes, two: Two) -> list[float]:
    """AUCs of the groups of train and val, cut at random into as many as the two splits have.

    Another cut each time, and none of them the one that was made.
    """
    pool = np.concatenate([some_of(examined, split, _MOST_IN_CUTS) for split in ("train", "val")])
    looks = np.hstack(list(_families(_measurements(examined, pool)).values()))
    codes = np.unique(groups[pool], return_inverse=True)[1]
    there = int(codes.max()) + 1
    sizes = [len(np.unique(two.groups[two.second == side])) for side in (False, True)]
    if sum(sizes) > there:
        second = min(max(2, round(there * sizes[1] / sum(sizes))), there - 2)
        sizes = [there - second, second]
    if min(sizes) < 2:
        return []
    made = Two(examined.splits[pool] == examined.splits[pool[-1]], codes, by_group=True).key
    return [
        area.value
        for cut, places in _cuts(codes, sizes, there, made)
        if (area := separation(looks[places], cut))
    ]


def _cuts(codes: Codes, sizes: list[int], there: int, made: bytes) -> Iterator[tuple[Two, Codes]]:
    """Ways to put so many groups on the first side and so many on the second, with the images of both."""
    chance = np.random.default_rng(0)
    seen = {made}
    for _ in range(_CUTS):
        side = np.full(there, -1)
        side[chance.permutation(there)[: sum(sizes)]] = np.repeat([0, 1], sizes)
        places = np.flatnonzero(side[codes] >= 0)
        cut = Two(side[codes[places]] == 1, np.unique(codes[places], return_inverse=True)[1], by_group=True)
        if cut.key not in seen:
            seen.add(cut.key)
            yield cut, places


def _answer(message: str) -> Answer:
    message = message[0].upper() + message[1:]
    return Answer(Finding(check="shift", message=message, severity="ok", setting="shift"))
