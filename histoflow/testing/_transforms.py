"""Transforms: preprocessing follows from the image alone, augmentation and mixing from the generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from histoflow.components import Transform
from histoflow.testing._common import calling, complaints, example_data, expect, leaving_global_chance_alone

Augment = Callable[[Tensor, Generator], Tensor]
Mix = Callable[[Tensor, Generator], tuple[Tensor, Tensor, Tensor]]

SEEDS = range(20)  # enough for an augmentation that changes one image in ten


def check(transform: Transform[Any], params: Any) -> None:
    expect(
        transform.stage == "augment" or not transform.takes_bytes,
        transform,
        f"takes_bytes is for the stage 'augment' alone. Got the stage '{transform.stage}'.",
    )
    expect(
        transform.stage == "preprocess" or not transform.may_decline,
        transform,
        f"may_decline is for the stage 'preprocess' alone. Got the stage '{transform.stage}'.",
    )
    if transform.stage == "preprocess":
        _check_preprocessing(transform, params)
    elif transform.stage == "augment":
        _check_augmentation(transform, params)
    else:
        _check_mixing(transform, params)


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
    for shape in _shapes(transform, params):
        _check_batch(transform, augment, shape)
        if transform.takes_bytes:
            _check_bytes(transform, augment, shape)
    _check_draws_per_image(transform, augment)


def _shapes(transform: Transform[Any], params: Any) -> Iterator[tuple[int, int, int, int]]:
    """Batches of all that the transform does not refuse."""
    for channels in (3, 1):
        if not complaints(transform, params, example_data("multiclass", channels)):
            yield from ((6, channels, 32, 32), (5, channels, 24, 32), (1, channels, 32, 32))


def _check_batch(transform: Transform[Any], augment: Augment, shape: tuple[int, ...]) -> None:
    images = _batch(shape)
    original = images.clone()
    with (
        leaving_global_chance_alone(transform),
        calling(transform, f"augmenting a batch of shape {tuple(shape)}"),
    ):
        once, twice = augment(images, _seeded(1)), augment(images.clone(), _seeded(1))
    _expect_images_like(original, images, once, transform)
    expect(torch.equal(once, twice), transform, "gives another result with the same seed of the generator.")


def _expect_images_like(original: Tensor, given: Tensor, got: Tensor, transform: Transform[Any]) -> None:
    expect(torch.equal(given, original), transform, "changes the batch that it is given. Return a new one.")
    expect(
        got.shape == given.shape and got.dtype == given.dtype,
        transform,
        f"must return {given.dtype} of shape {tuple(given.shape)}, as given. "
        f"Got {got.dtype} of {tuple(got.shape)}.",
    )
    expect(
        bool(((got >= 0) & (got <= 1)).all()),  # false for what is not a number, too
        transform,
        f"must stay within 0 to 1. Got {float(got.min()):g} to {float(got.max()):g}.",
    )


def _check_bytes(transform: Transform[Any], augment: Augment, shape: tuple[int, ...]) -> None:
    """Bytes, in the layout that they are stored in, must go where the floats go."""
    stored = (255 * _batch(shape)).round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
    original = stored.clone()
    with calling(transform, f"augmenting a batch of uint8 of shape {tuple(shape)}"):
        got, floats = augment(stored, _seeded(1)), augment(original.float() / 255, _seeded(1))
    expect(torch.equal(stored, original), transform, "changes the batch that it is given. Return a new one.")
    expect(
        got.dtype == torch.uint8 and got.shape == stored.shape,
        transform,
        f"takes bytes, and so must return uint8 of shape {tuple(shape)}, as given. "
        f"Got {got.dtype} of {tuple(got.shape)}.",
    )
    expect(
        torch.equal(got.float() / 255, floats),
        transform,
        "makes something else of bytes than of the same pixels from 0 to 1. "
        "What does more than to move whole pixels may not say takes_bytes.",
    )


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


def _batch(shape: tuple[int, ...]) -> Tensor:
    """Images that hold the darkest and the brightest of pixels, too."""
    images = torch.rand(shape, generator=_seeded(0))
    images[0, :, 0, 0], images[0, :, 0, 1] = 0.0, 1.0
    return images


def _seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


# ── mix ─────────────────────────────────────────────────────────────────────────────────────────


def _check_mixing(transform: Transform[Any], params: Any) -> None:
    with calling(transform, "build"):
        mix: Any = transform.build(params)
    shapes = list(_shapes(transform, params))
    for shape in shapes:
        _check_mixed_batch(transform, mix, shape)
    for shape in shapes[:1]:
        results = [mix(_batch(shape), _seeded(seed)) for seed in SEEDS]
        expect(
            any(not _same(result, results[0]) for result in results),
            transform,
            "gives the same whatever the generator. Draw the shares from it.",
        )


def _check_mixed_batch(transform: Transform[Any], mix: Mix, shape: tuple[int, ...]) -> None:
    images = _batch(shape)
    original = images.clone()
    with leaving_global_chance_alone(transform), calling(transform, f"mixing a batch of shape {shape}"):
        once, twice = mix(images, _seeded(1)), mix(images.clone(), _seeded(1))
    expect(
        isinstance(once, tuple) and len(once) == 3 and all(isinstance(part, Tensor) for part in once),
        transform,
        f"must return images, partners and shares, three tensors. Got {type(once).__name__}.",
    )
    mixed, partners, shares = once
    _expect_images_like(original, images, mixed, transform)
    _expect_partners(partners, len(images), transform)
    _expect_shares(shares, len(images), transform)
    expect(_same(once, twice), transform, "gives another result with the same seed of the generator.")
    expect(
        torch.allclose(mixed[shares == 1], images[shares == 1], atol=1e-6),
        transform,
        "changes an image of which it says that all is its own: a share of 1.",
    )


def _expect_partners(partners: Tensor, count: int, transform: Transform[Any]) -> None:
    expect(
        partners.dtype == torch.int64 and partners.shape == (count,),
        transform,
        f"must return partners of torch.int64 of shape ({count},), one for each image. "
        f"Got {partners.dtype} of {tuple(partners.shape)}.",
    )
    expect(
        bool(((partners >= 0) & (partners < count)).all()),
        transform,
        f"must choose partners from 0 to {count - 1}, the images of the batch. Got {partners.tolist()}.",
    )


def _expect_shares(shares: Tensor, count: int, transform: Transform[Any]) -> None:
    expect(
        shares.is_floating_point() and shares.shape == (count,),
        transform,
        f"must return shares of floats of shape ({count},), one for each image. "
        f"Got {shares.dtype} of {tuple(shares.shape)}.",
    )
    expect(
        bool(((shares >= 0) & (shares <= 1)).all()),
        transform,
        f"must return shares from 0 to 1. Got {float(shares.min()):g} to {float(shares.max()):g}.",
    )


def _same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))
