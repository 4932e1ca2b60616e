"""What holds for all built-in augmentations: the contract, their bounds, and the choice by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from augmenting import augmented, images
from histoflow import Transform
from histoflow.experiment import parse
from histoflow.testing import check_component
from histoflow_plugins.artefacts import BLUR, ERASE, BlurParams, EraseParams
from histoflow_plugins.colour import COLOR_JITTER, ColorJitterParams
from histoflow_plugins.geometry import (
    FLIPS,
    RIGHT_ANGLES,
    ROTATION,
    SHIFT_SCALE,
    FlipsParams,
    RightAnglesParams,
    RotationParams,
    ShiftScaleParams,
)
from histoflow_plugins.mixing import CUTMIX, MIXUP, CutmixParams, MixupParams
from histoflow_plugins.policies import RANDOM_POLICY, RandomPolicyParams
from histoflow_plugins.stain import RANDSTAIN, STAIN_JITTER, RandStainParams, StainJitterParams

AUGMENTATIONS = [
    (FLIPS, FlipsParams()),
    (FLIPS, FlipsParams(horizontal=0.1, vertical=0)),
    (RIGHT_ANGLES, RightAnglesParams()),
    (ROTATION, RotationParams()),
    (ROTATION, RotationParams(degrees=180)),
    (SHIFT_SCALE, ShiftScaleParams()),
    (COLOR_JITTER, ColorJitterParams()),
    (COLOR_JITTER, ColorJitterParams(strength=1)),
    (STAIN_JITTER, StainJitterParams()),
    (STAIN_JITTER, StainJitterParams(factor=1, offset=1)),
    (RANDSTAIN, RandStainParams()),
    (RANDSTAIN, RandStainParams(strength=2, probability=0.5)),
    (BLUR, BlurParams()),
    (ERASE, EraseParams(area=1)),
    (RANDOM_POLICY, RandomPolicyParams()),
    (RANDOM_POLICY, RandomPolicyParams(number=9, magnitude=1)),
]
MIXING = [
    (MIXUP, MixupParams()),
    (MIXUP, MixupParams(probability=0.5)),
    (CUTMIX, CutmixParams()),
    (CUTMIX, CutmixParams(alpha=0.1, probability=1)),
]


@pytest.mark.parametrize(("transform", "params"), [*AUGMENTATIONS, *MIXING])
def test_contract(transform: Transform[Any], params: Any) -> None:
    check_component(transform, params)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("transform", "params"), [*AUGMENTATIONS, *MIXING])
def test_a_gpu_can_record_it(transform: Transform[Any], params: Any) -> None:
    """Recorded and replayed, it gives what it gives by itself: nothing waits for the values drawn."""
    batch, generator = images().cuda(), torch.Generator("cuda")
    change: Any = transform.build(params)
    alone = change(batch, generator.manual_seed(0))
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        recorded = change(batch, generator)
    generator.manual_seed(0)
    graph.replay()
    torch.testing.assert_close(recorded, alone, rtol=0, atol=0)


def test_an_experiment_chooses_them_by_name_or_with_parameters() -> None:
    experiment = parse({"dataset": "tissue", "augment": ["flips", {"name": "color_jitter", "strength": 0.2}]})
    assert [choice.name for choice in experiment.augment] == ["flips", "color_jitter"]
    batch = images()
    for choice, transform in zip(experiment.augment, (FLIPS, COLOR_JITTER), strict=True):
        batch = augmented(transform, choice, batch)
    assert batch.shape == (64, 3, 12, 12)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        (FlipsParams, {"horizontal": 1.1}),
        (RightAnglesParams, {"degrees": 90}),
        (RotationParams, {"degrees": 181}),
        (ShiftScaleParams, {"scale": 1}),
        (ColorJitterParams, {"strength": -0.1}),
        (ColorJitterParams, {"hue": 0.6}),
        (StainJitterParams, {"factor": 1.1}),
        (BlurParams, {"sigma": 0}),
        (EraseParams, {"area": 0}),
        (MixupParams, {"alpha": 0}),
        (CutmixParams, {"probability": 2}),
        (RandomPolicyParams, {"number": 10}),
    ],
)
def test_parameters_have_bounds(params: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        params(**wrong)
