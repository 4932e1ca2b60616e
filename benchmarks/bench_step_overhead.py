"""What a step of ``fit`` costs over a bare loop, on a network too small to hide it; and what Lightning costs.

Lightning is measured where it is installed: pip install lightning
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
from side_by_side import describe
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from histoflow.engine.batch import Batch
from histoflow.engine.fit import fit
from histoflow.engine.step import Trainee

STEPS, RUNS = 2000, 9


class Made(Dataset[tuple[Tensor, Tensor]]):
    """The same batch again and again, so that only the loop is measured."""

    def __init__(self) -> None:
        self.batch = Batch(torch.randn(8, 4), torch.randint(0, 2, (8,)))

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        return self.batch.images, self.batch.labels

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:  # noqa: ARG002 - the same in all
        for _ in range(first_step, STEPS):
            yield self.batch


def trainee() -> Trainee:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return Trainee(model, nn.CrossEntropyLoss(reduction="none"), optimizer, scheduler)


def with_fit(batches: Made) -> Callable[[], None]:
    ours = trainee()
    return lambda: list(fit(ours, batches, lambda _: {}, seed=0, epochs=1)) and None


def bare_loop(batches: Made) -> Callable[[], None]:
    bare, loss = trainee(), nn.CrossEntropyLoss()

    def run() -> None:
        for images, labels, *_ in batches.epoch(1):
            bare.optimizer.zero_grad(set_to_none=True)
            loss(bare.model(images), labels).backward()
            bare.optimizer.step()

    return run


def with_lightning(batches: Made) -> Callable[[], None]:
    """Its trainer with everything off that can be off."""
    from lightning.pytorch import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = nn.Linear(4, 2), nn.CrossEntropyLoss()

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return self.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    loader = DataLoader(batches, batch_size=None)

    def run() -> None:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), loader)

    return run


def main() -> None:
    torch.set_num_threads(1)
    batches = Made()
    ways = {"bare loop": bare_loop(batches), "fit": with_fit(batches)}
    if find_spec("lightning"):
        ways["Lightning"] = with_lightning(batches)
    else:
        print("Lightning is not installed here, and is left out: pip install lightning")
    microseconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-1, RUNS):  # the first warms up
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if run >= 0:
                microseconds[name].append((time.perf_counter() - begun) / STEPS * 1e6)
    print(describe("A step of a linear network, batch of 8", RUNS))
    for name, found in microseconds.items():
        added = [mine - bare for mine, bare in zip(found, microseconds["bare loop"], strict=True)]
        more = f"   adds {_figure(added)}" if name != "bare loop" else ""
        print(f"  {name:10} {_figure(found)} a step{more}")


def _figure(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} µs ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main()
