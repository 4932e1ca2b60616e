"""Training batches: the packed store against a data set and loader written by hand.

Both give normalised float batches with flips drawn for each image. By hand, images of 28 and 64 pixels come
from an array in memory, as MedMNIST's do: once from the next larger edition, resized each time by PIL, and
once from an edition that has the size already. Those of 96 pixels come from TIFF files of that size, as
Kaggle's do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from made_data import noise, packed
from numpy.typing import NDArray
from PIL import Image
from side_by_side import Way, compare
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from histoflow import Transform
from histoflow.data.batches import TrainBatches
from histoflow.data.pixels import Pixels
from histoflow.data.store import PackedStore
from histoflow.registry import installed

IMAGES, HELD_OUT, BATCH = 4000, 4, 128
LARGER = {28: 64, 64: 128}
CPU = torch.device("cpu")


class ByHand(Dataset[tuple[torch.Tensor, int]]):
    """PIL and torchvision, image by image, as the MedMNIST examples do it."""

    def __init__(self, open_image: Callable[[int], Image.Image], changes: list[object]) -> None:
        self.open_image = open_image
        self.transform = transforms.Compose(changes)

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.open_image(index)), index % 2


def write_tiffs(images: NDArray[np.uint8], folder: Path) -> Callable[[int], Image.Image]:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.tif")
    return lambda index: Image.open(folder / f"{index}.tif").convert("RGB")


def largest_difference(by_hand: ByHand, store: PackedStore, pixels: Pixels) -> float:
    """Between the same image by hand and by us, without flips, in levels of a byte."""
    ours = TrainBatches(store.split("train"), pixels, batch_size=BATCH, seed=0)
    places, batch = next(ours.places(1)), next(ours.epoch(1))
    theirs = torch.stack([by_hand[int(place)][0] for place in places])
    spread = 255 * torch.tensor(store.manifest.std).view(1, -1, 1, 1)
    return float(((batch.images - theirs) * spread).abs().max())


def loading(open_image: Callable[[int], Image.Image], changes: list[object]) -> Way:
    """An epoch of a loader without workers."""
    flipping = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
    loader = DataLoader(ByHand(open_image, [*flipping, *changes]), batch_size=BATCH, shuffle=True)
    return lambda: sum(len(labels) for _, labels in loader)


def ways_by_hand(images: NDArray[np.uint8], side: int, folder: Path, scaling: list[object]) -> dict[str, Way]:
    """The last is the one to be compared with."""
    if side not in LARGER:
        return {"by hand, from TIFF files": loading(write_tiffs(images[:IMAGES], folder / "tiffs"), scaling)}
    large = noise(IMAGES, LARGER[side])
    return {
        "by hand, of that size already": loading(lambda index: Image.fromarray(images[index]), scaling),
        f"by hand, resized from {LARGER[side]}": loading(
            lambda index: Image.fromarray(large[index]), [transforms.Resize((side, side)), *scaling]
        ),
    }


def bench(side: int, folder: Path) -> None:
    images = noise(IMAGES + 2 * HELD_OUT, side)
    store = packed(images, folder, HELD_OUT)
    scaling = [transforms.ToTensor(), transforms.Normalize(store.manifest.mean, store.manifest.std)]
    by_hand = ways_by_hand(images, side, folder, scaling)

    pixels = Pixels(store.manifest.mean, store.manifest.std, CPU)
    flips = installed().get(Transform, "flips")
    early = [flips.build(flips.params())]
    ours = TrainBatches(store.split("train"), pixels, batch_size=BATCH, seed=0, early=early)
    compare(
        f"Batches of {BATCH}, {side}×{side}, flips for each image, normalised, threads: "
        f"{torch.get_num_threads()}",
        "images",
        {"histoflow": lambda: sum(len(batch.labels) for batch in ours.epoch(1)), **by_hand},
    )
    plain = ByHand(lambda index: Image.fromarray(images[index]), scaling)
    difference = largest_difference(plain, store, pixels)
    print(f"  largest difference from by hand: {difference:.1e} levels of a byte")


def main() -> None:
    for side in (64, 28, 96):
        with tempfile.TemporaryDirectory() as folder:
            bench(side, Path(folder))


if __name__ == "__main__":
    main()
