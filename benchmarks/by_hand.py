"""The peer: the training script that a competent user writes by hand for a set like PathMNIST.

Arrays in memory, PIL, torchvision's transforms and ResNet-18, a DataLoader, Adam, and a validation after
each epoch, in the manner of MedMNIST's examples.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

from histoflow.data.store import PackedStore, SplitReader

EPOCHS, BATCH, LEARNING_RATE = 10, 128, 1e-3


class Patches(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: object) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Script:
    """A training under way: the user's ``main``, epoch by epoch, so that it can alternate with others."""

    def __init__(
        self,
        store: PackedStore,
        *,
        workers: int = 0,
        batch_size: int = BATCH,
        device: str = "cpu",
        amp: bool = False,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        self.store, self.workers, self.batch_size = store, workers, batch_size
        self.device, self.amp = torch.device(device), amp
        self.training = self.loader(store.split("train"), shuffle=True)
        self.validation = self.loader(store.split("val"))
        self.model = resnet18(num_classes=len(store.manifest.classes)).to(self.device)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def loader(self, split: SplitReader, shuffle: bool = False) -> DataLoader[tuple[Tensor, int]]:
        flips = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()] if shuffle else []
        normalize = transforms.Normalize(self.store.manifest.mean, self.store.manifest.std)
        transform = transforms.Compose([*flips, transforms.ToTensor(), normalize])
        return DataLoader(
            Patches(split.gather(np.arange(len(split))), split.labels, transform),
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def train_epoch(self) -> int:
        """Returns how many images it trained on."""
        self.model.train()
        running_loss, images_done = 0.0, 0
        for images, labels in self.training:
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            with self._autocast():
                loss = self.criterion(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            running_loss += loss.item() * len(labels)
            images_done += len(labels)
        return images_done

    @torch.no_grad()
    def accuracy(self, loader: DataLoader[tuple[Tensor, int]]) -> float:
        self.model.eval()
        correct, images_seen = 0, 0
        for images, labels in loader:
            with self._autocast():
                outputs = self.model(images.to(self.device))
            correct += (outputs.argmax(dim=1).cpu() == labels).sum().item()
            images_seen += len(labels)
        return correct / images_seen

    def val_accuracy(self) -> float:
        return self.accuracy(self.validation)

    def test_accuracy(self) -> float:
        return self.accuracy(self.loader(self.store.unseal_test()))

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.amp else nullcontext()
