"""Training batches at 64 pixels: the packed store against a data set and loader written by hand.

Both give normalised float batches with flips drawn for each image.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import compare
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from histoflow import Facts, Row, Samples, SplitName, Transform
from histoflow.data.batches import Pixels, TrainBatches
from histoflow.data.packing import Recipe, pack
from histoflow.data.store import PackedStore
from histoflow.registry import installed

IMAGES, SIDE, BATCH = 4000, 64, 128


class ByHand(Dataset[tuple[torch.Tensor, int]]):
    """Arrays in memory, PIL and torchvision, as the MedMNIST examples do it."""

    def __init__(self, images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 2


def packed(images: np.ndarray, folder: Path) -> PackedStore:
    splits: list[SplitName] = ["train"] * IMAGES + ["val", "test"] * ((len(images) - IMAGES) // 2)
    rows = [Row(label=index % 2, source=str(index), split=split) for index, split in enumerate(splits)]
    made = Samples(classes=("no", "yes"), rows=rows, read=lambda index: images[index])
    split = {"val": 0.1, "test": 0.1, "seed": 0}
    recipe = Recipe(dataset={"name": "made"}, dataset_version=1, raw_digest="", preprocess=[], split=split)
    return PackedStore(pack(recipe, Facts(), lambda: made, (), folder))


def main() -> None:
    images = np.random.default_rng(0).integers(0, 256, (IMAGES + 8, SIDE, SIDE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        store = packed(images, Path(folder))
        pixels = Pixels(store.manifest.mean, store.manifest.std, torch.device("cpu"))
        flips = installed().get(Transform, "flips")
        ours = TrainBatches(
            store.split("train"), pixels, batch_size=BATCH, seed=0, augment=[flips.build(flips.params())]
        )
        by_hand = DataLoader(
            ByHand(images[:IMAGES], store.manifest.mean, store.manifest.std), batch_size=BATCH, shuffle=True
        )
        compare(
            f"Batches of {BATCH}, {SIDE}×{SIDE}, flips for each image, normalised",
            "images",
            {
                "histoflow": lambda: sum(len(labels) for _, labels in ours.epoch(1)),
                "by hand, no workers": lambda: sum(len(labels) for _, labels in by_hand),
            },
        )


if __name__ == "__main__":
    main()
