"""Trainings that yield after each epoch: histoflow's, the script's, and a fast loop written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from by_hand import LEARNING_RATE, Script
from torch import Tensor, nn
from torchvision.models import resnet18

from histoflow import stages
from histoflow.data.store import PackedStore
from histoflow.engine.memory import keep_big_blocks
from histoflow.experiment import parse


def packed(data: Mapping[str, Any]) -> Path:
    """Where the data of this experiment lie packed; they are packed if they were not."""
    experiment = parse(data)
    return stages.preprocess(experiment, stages.fetch(experiment)).folder


def with_histoflow(folder: Path, data: Mapping[str, Any]) -> Iterator[int]:
    """How many images each epoch trained on; it ends with a validation and a checkpoint."""
    keep_big_blocks()  # as the command line does when it starts
    experiment, manifest = parse(data), PackedStore(folder).manifest
    ready = stages.Packed(folder=folder, fingerprint=manifest.fingerprint)
    for _ in stages.training(experiment, ready, stages.start(experiment)):
        yield manifest.splits["train"].images


def by_hand(folder: Path, **options: Any) -> Iterator[int]:
    """How many images each epoch trained on; it ends with a validation."""
    script = Script(PackedStore(folder), **options)
    while True:
        images = script.train_epoch()
        script.val_accuracy()
        yield images


def resident_loop(folder: Path, batch_size: int) -> Iterator[int]:
    """An expert's loop: images on the GPU, bf16, channels_last, fused Adam; each kernel launched alone."""
    store = PackedStore(folder)
    images, labels = _on_the_gpu(store, "train"), torch.tensor(store.split("train").labels).cuda()
    mean, std = (255 * torch.tensor(v, device="cuda") for v in (store.manifest.mean, store.manifest.std))
    model = resnet18(num_classes=len(store.manifest.classes)).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    while True:
        model.train()
        for chosen in torch.randperm(len(labels), device="cuda").split(batch_size):
            batch = _normalised(_flipped(images[chosen]), mean, std)
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(batch), labels[chosen])
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()
        yield len(labels)


def _on_the_gpu(store: PackedStore, name: Any) -> Tensor:
    return torch.cat([torch.from_numpy(shard.copy()).cuda() for shard in store.split(name).shards()])


def _flipped(images: Tensor) -> Tensor:
    for side in (1, 2):
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(chosen, images.flip(side), images)
    return images


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
