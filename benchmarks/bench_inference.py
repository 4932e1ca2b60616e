"""Inference with ResNet-18 at 64 pixels on the CPU, beside the loop that a user writes."""

from __future__ import annotations

import torch
from side_by_side import Way, compare
from torch import Tensor, nn
from torchvision.models import resnet18

from histoflow.engine.inference import prepare
from histoflow.engine.predict import predict

IMAGES, SIZE = 256, (3, 64, 64)
PEER_BATCH = 64


def users_loop(model: nn.Module, images: Tensor) -> Way:
    model.eval()

    def run() -> int:
        found = []
        with torch.no_grad():
            for batch in images.split(PEER_BATCH):
                found.append(model(batch))  # noqa: PERF401 - as a user writes it
        return len(torch.cat(found))

    return run


def ours(model: nn.Module, images: Tensor, batch_size: int, **how: bool) -> Way:
    ready = prepare(model, torch.device("cpu"), SIZE, **how)
    batches = [(batch, torch.zeros(len(batch))) for batch in images.split(batch_size)]
    return lambda: len(predict(ready, batches).outputs)


def main() -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=9)
    images = torch.randn(IMAGES, *SIZE)
    as_stored = images.contiguous(memory_format=torch.channels_last)
    ways = {f"batches of {size}": ours(model, as_stored, size) for size in (64, 128, 256)}
    ways["folded, not blocked, 64"] = ours(model, as_stored, 64, blocked=False)
    ways["eager NCHW loop, batches of 64"] = users_loop(model, images)
    compare(f"Inference, ResNet-18, 64 px, CPU, {torch.get_num_threads()} threads", "images", ways, runs=5)


if __name__ == "__main__":
    main()
