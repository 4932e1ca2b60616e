"""The memory that training takes on a packed set of many gigabytes that is streamed from disk (Linux).

Pages of files that are mapped can be dropped at any time, so what counts is the anonymous memory.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from made_data import noise
from torch import nn

from histoflow.data.batches import TrainBatches
from histoflow.data.laying import SHARD_BYTES
from histoflow.data.pixels import Pixels
from histoflow.data.store import SplitFacts, SplitReader, shard_name

BATCH = 256


def written(folder: Path, gigabytes: float, side: int) -> SplitReader:
    """A training split of that size; its shards differ in their first image alone."""
    shard = noise(SHARD_BYTES // (side * side * 3), side)
    count = max(1, round(gigabytes * 1e9 / shard.nbytes))
    for index in range(count):
        shard[0] = index % 256
        np.save(folder / shard_name(index), shard)
    images = count * len(shard)
    np.save(folder / "labels.npy", np.arange(images) % 2)
    facts = SplitFacts(
        images=images, counts=(images // 2,) * 2, groups=None, shards=(len(shard),) * count, files={}
    )
    return SplitReader(folder, facts)


def megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


def train(batches: TrainBatches, steps: int) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    before, most, most_mapped, begin = megabytes("RssAnon"), 0.0, 0.0, time.perf_counter()
    done = 0
    for step, batch in zip(range(steps), batches.epoch(1), strict=False):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
        done += len(batch.labels)
        if step % 16 == 0:
            most, most_mapped = max(most, megabytes("RssAnon")), max(most_mapped, megabytes("RssFile"))
    print(
        f"{done:,} images, {done / (time.perf_counter() - begin):,.0f} a second\n"
        f"  anonymous memory: {before:,.0f} MB before, {most:,.0f} MB at most\n"
        f"  mapped files in memory: {most_mapped:,.0f} MB at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2, help="written to disk (default: 2)")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10**9, help="end before the epoch does")
    parser.add_argument("--folder", type=Path, help="where to write, on a disk with room")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        split = written(folder, asked.gigabytes, asked.side)
        pixels = Pixels([0.5] * 3, [0.25] * 3, torch.device("cpu"))
        print(f"{len(split):,} images of {asked.side}×{asked.side}, streamed in batches of {BATCH}")
        train(TrainBatches(split, pixels, batch_size=BATCH, seed=0, residence="stream"), asked.steps)


if __name__ == "__main__":
    main()
