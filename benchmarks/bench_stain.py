"""Stains made alike and made to differ, a batch at a time, beside numpy that takes image after image.

Both on one thread: packing has a process for each core.
The numpy below is the same arithmetic as one writes it plainly; both are compared before they are timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from side_by_side import Way, compare
from threadpoolctl import threadpool_limits
from torch import Generator, Tensor

from histoflow_plugins.stain import (
    MacenkoParams,
    RandStainParams,
    ReinhardParams,
    StainJitterParams,
    build_macenko,
    build_randstain,
    build_reinhard,
    build_stain_jitter,
)
from histoflow_plugins.tissue import TissueParams, read

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIDES = (64, 224)
PIXELS = 2**19  # in each batch


# ── As written by hand ──────────────────────────────────────────────────────────────────────────


def macenko_by_hand(image: Image, params: MacenkoParams) -> Image:
    density = -np.log((image.reshape(-1, 3) + 1.0) / 240)
    tissue = density[density.mean(axis=1) >= params.beta]
    _, vectors = np.linalg.eigh(tissue.T @ tissue)
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    flat = tissue @ plane
    angles = np.arctan2(flat[:, 1], flat[:, 0])
    first, second = np.percentile(angles, [params.alpha, 100 - params.alpha])
    stains = plane @ np.array([[np.cos(first), np.cos(second)], [np.sin(first), np.sin(second)]])
    if stains[0, 0] < stains[0, 1]:
        stains = stains[:, ::-1]
    amounts = np.linalg.lstsq(stains, density.T, rcond=None)[0]
    maxima = np.percentile(np.linalg.lstsq(stains, tissue.T, rcond=None)[0], 99, axis=1)
    reference = np.array([params.haematoxylin, params.eosin]).T
    reference = reference / np.linalg.norm(reference, axis=0)
    changed = reference @ (amounts * (np.array(params.maxima) / maxima)[:, None])
    return np.clip(240 * np.exp(-changed.T) - 1, 0, 255).round().astype(np.uint8).reshape(image.shape)


XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip
TO_XYZ = XYZ / XYZ.sum(axis=1, keepdims=True)
TO_LAB = np.array([[0, 116, 0], [500, -500, 0], [0, 200, -200]])


def lab_by_hand(rgb: Floats) -> Floats:
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ TO_XYZ.T
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return roots @ TO_LAB.T - np.array([16, 0, 0])


def rgb_by_hand(lab: Floats) -> Floats:
    roots = (lab + np.array([16, 0, 0])) @ np.linalg.inv(TO_LAB).T
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    linear = np.clip(xyz @ np.linalg.inv(TO_XYZ).T, 0, 1)
    return np.clip(np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear), 0, 1)


def restyled_by_hand(image: Image, means: Sequence[float], stds: Sequence[float]) -> Image:
    rgb = image.reshape(-1, 3) / 255
    density = -np.log((image.reshape(-1, 3) + 1.0) / 240).mean(axis=1)
    tissue = np.clip((density - 0.1) / 0.15, 0, 1)[:, None]
    lab = lab_by_hand(rgb)
    mean = np.average(lab, axis=0, weights=tissue[:, 0])
    std = np.sqrt(np.average((lab - mean) ** 2, axis=0, weights=tissue[:, 0]))
    changed = rgb_by_hand(lab + tissue * ((lab - mean) / std * stds + means - lab))
    return (255 * changed).round().astype(np.uint8).reshape(image.shape)


STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
UNMIXING = np.linalg.inv(STAINS)


def jittered_by_hand(image: Image, chance: np.random.Generator) -> Image:
    amounts = -np.log(np.maximum(image.reshape(-1, 3), 1) / 255) @ UNMIXING
    amounts = amounts * chance.uniform(0.95, 1.05, 3) + chance.uniform(-0.05, 0.05, 3)
    changed = np.clip(np.exp(-amounts @ STAINS), 0, 1)
    return (255 * changed).round().astype(np.uint8).reshape(image.shape)


def randstained_by_hand(image: Image, chance: np.random.Generator, params: RandStainParams) -> Image:
    means = chance.normal(params.means, params.strength * np.array(params.mean_stds))
    stds = chance.normal(params.stds, params.strength * np.array(params.std_stds))
    return restyled_by_hand(image, means, np.maximum(stds, np.array(params.stds) / 4))


# ── Side by side ────────────────────────────────────────────────────────────────────────────────


def one_by_one(images: Image, change: Callable[[Image], Image]) -> Way:
    def run() -> int:
        return len([change(image) for image in images])

    return run


def batched(images: Tensor, change: Callable[[Tensor], Any]) -> Way:
    """Floats in and out, as a batch of training has them."""

    def run() -> int:
        with torch.no_grad():
            change(images)
        if images.is_cuda:
            torch.cuda.synchronize()
        return len(images)

    return run


def normalising(name: str, images: Image, step: Any, by_hand: Callable[[Image], Image]) -> None:
    apart = np.abs(np.stack([step(image).astype(int) - by_hand(image) for image in images[:16]]))
    print(f"\n{name}: {apart.mean():.3f} of 255 levels from numpy, {apart.max()} at most")
    ways = {f"batched on {device}": batched(on(device, images), step.batched) for device in devices()}
    ways["one by one, as when packing"] = one_by_one(images, step)
    compare(title(name, images), "images", ways | {"numpy": one_by_one(images, by_hand)})


def differing(name: str, images: Image, augment: Any, by_hand: Callable[[Image], Image]) -> None:
    ways = {}
    for device in devices():
        generator = Generator(device).manual_seed(0)
        ways[f"batched on {device}"] = batched(
            on(device, images), lambda batch, generator=generator: augment(batch, generator)
        )
    compare(title(name, images), "images", ways | {"numpy": one_by_one(images, by_hand)})


def devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def on(device: str, images: Image) -> Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255).to(device)


def title(name: str, images: Image) -> str:
    count, side = images.shape[:2]
    return f"{name}, {count} images of {side}×{side}"


def patches(side: int) -> Image:
    """Of painted tissue, those that both normalisations take on."""
    count = max(16, PIXELS // side**2)
    params = TissueParams(images=max(27, 2 * count), size=side)
    images = np.stack([read(params, index) for index in range(params.images)])
    steps = build_macenko(MacenkoParams()), build_reinhard(ReinhardParams())
    taken = np.stack([step.batched(on("cpu", images))[1].numpy() for step in steps]).all(axis=0)
    return images[taken][:count]


@threadpool_limits.wrap(limits=1)
def main() -> None:
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    macenko, reinhard, randstain = MacenkoParams(), ReinhardParams(), RandStainParams()
    for side in [int(argument) for argument in sys.argv[1:]] or SIDES:
        images = patches(side)
        normalising("macenko", images, build_macenko(macenko), lambda image: macenko_by_hand(image, macenko))
        normalising(
            "reinhard",
            images,
            build_reinhard(reinhard),
            lambda image: restyled_by_hand(image, reinhard.means, reinhard.stds),
        )
        differing(
            "stain_jitter",
            images,
            build_stain_jitter(StainJitterParams()),
            lambda image: jittered_by_hand(image, chance),
        )
        differing(
            "randstain",
            images,
            build_randstain(randstain),
            lambda image: randstained_by_hand(image, chance, randstain),
        )


if __name__ == "__main__":
    main()
