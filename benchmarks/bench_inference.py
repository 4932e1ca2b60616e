"""Inference with ResNet-18 at 64 pixels on the CPU, beside the loop that a user writes.

Each side works in a process of its own, since how memory is handed out belongs to the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from own_process import OwnProcess
from side_by_side import compare
from torch import Tensor, nn
from torchvision.models import resnet18

from histoflow.engine.inference import prepare
from histoflow.engine.memory import keep_big_blocks
from histoflow.engine.predict import predict

IMAGES, SIZE = 512, (3, 64, 64)
PEER_BATCH = 64


def network_and_images() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return resnet18(num_classes=9), torch.randn(IMAGES, *SIZE)


def by_hand() -> Iterator[int]:
    model, images = network_and_images()
    model.eval()
    while True:
        found = []
        with torch.no_grad():
            for batch in images.split(PEER_BATCH):
                found.append(model(batch))  # noqa: PERF401 - as a user writes it
        yield len(torch.cat(found))


def with_histoflow(batch_size: int) -> Iterator[int]:
    keep_big_blocks()  # as the command line does when it starts
    model, images = network_and_images()
    ready = prepare(model, torch.device("cpu"), SIZE)
    as_stored = images.contiguous(memory_format=torch.channels_last)
    batches = [(batch, torch.zeros(len(batch))) for batch in as_stored.split(batch_size)]
    while True:
        yield len(predict(ready, batches).outputs)


def main() -> None:
    with ExitStack() as stack:
        ways = {
            f"batches of {size}": stack.enter_context(OwnProcess(with_histoflow, size))
            for size in (64, 128, 256)
        }
        ways[f"eager NCHW loop, batches of {PEER_BATCH}"] = stack.enter_context(OwnProcess(by_hand))
        compare(f"Inference, ResNet-18, 64 px, CPU, {torch.get_num_threads()} threads", "images", ways)


if __name__ == "__main__":
    main()
