"""Transforms: preprocessing follows from the image alone, augmentation from the generator alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from histoflow.components import Transform
from histoflow.testing._common import calling, complaints, example_data, expect, leaving_global_chance_alone

Augment = Callable[[Tensor, Generator], Tensor]

SEEDS = range(20)  # enough for an augmentation that changes one image in ten


def check(transform: Transform[Any], params: Any) -> None:
    if transform.stage == "preprocess":
        _check_preprocessing(transform, params)
    else:
        _check_augmentation(transform, params)


# ── preprocess ──────────────────────────────────────────────────────────────────────────────────


def _check_preprocessing(transform: Transform[Any], params: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 256, 3), np.uint8)
    original = image.copy()
    with leaving_global_chance_alone(transform), calling(transform, "preprocessing an image of 224×256×3"):
        first: Any = transform.build(params)
        second: Any = transform.build(params)
        once, twice = first(image), second(image)
    expect(
        np.array_equal(image, original), transform, "changes the image that it is given. Return a new one."
    )
    expect(
        isinstance(once, np.ndarray) and once.dtype == np.uint8 and once.ndim == 3 and once.size > 0,
        transform,
        f"must return an H×W×C array of uint8. Got {getattr(once, 'dtype', type(once).__name__)} "
        f"of shape {getattr(once, 'shape', 'none')}.",
    )
    expect(np.array_equal(once, twice), transform, "gives another result the second time.")


# ── augment ─────────────────────────────────────────────────────────────────────────────────────


def _check_augmentation(transform: Transform[Any], params: Any) -> None:
    with calling(transform, "build"):
        augment: Any = transform.build(params)
    for channels in (3, 1):
        if complaints(transform, params, example_data("multiclass", channels)):
            continue
        for shape in ((6, channels, 32, 32), (5, channels, 24, 32), (1, channels, 32, 32)):
            _check_batch(transform, augment, shape)
    _check_draws_per_image(transform, augment)


def _check_batch(transform: Transform[Any], augment: Augment, shape: tuple[int, ...]) -> None:
    images = torch.rand(shape, generator=_seeded(0))
    images[0, :, 0, 0], images[0, :, 0, 1] = 0.0, 1.0
    original = images.clone()
    with (
        leaving_global_chance_alone(transform),
        calling(transform, f"augmenting a batch of shape {tuple(shape)}"),
    ):
        once, twice = augment(images, _seeded(1)), augment(images.clone(), _seeded(1))
    expect(
        bool((images == original).all()), transform, "changes the batch that it is given. Return a new one."
    )
    expect(
        once.shape == images.shape and once.dtype == images.dtype,
        transform,
        f"must return {images.dtype} of shape {tuple(shape)}, as given. "
        f"Got {once.dtype} of {tuple(once.shape)}.",
    )
    expect(
        bool(((once >= 0) & (once <= 1)).all()),  # false for what is not a number, too
        transform,
        f"must stay within 0 to 1. Got {float(once.min()):g} to {float(once.max()):g}.",
    )
    expect(torch.equal(once, twice), transform, "gives another result with the same seed of the generator.")


def _check_draws_per_image(transform: Transform[Any], augment: Augment) -> None:
    """Copies of one image must part ways, and differently so for another seed."""
    copies = torch.rand((1, 3, 32, 32), generator=_seeded(0)).repeat(8, 1, 1, 1)
    results = [augment(copies.clone(), _seeded(seed)) for seed in SEEDS]
    expect(
        any(not torch.equal(result, results[0]) for result in results),
        transform,
        "gives the same whatever the generator. What has no chance in it belongs in the stage 'preprocess'.",
    )
    expect(
        any(not torch.equal(image, result[0]) for result in results for image in result),
        transform,
        "changes all images of a batch alike. Draw len(images) numbers from the generator.",
    )


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)
