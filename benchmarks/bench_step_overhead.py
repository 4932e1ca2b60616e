"""What a step of ``fit`` costs over a bare loop, on a network too small to hide it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from side_by_side import compare
from torch import Tensor, nn

from histoflow.engine.fit import Trainee, fit

STEPS = 2000


class Made:
    """The same batch again and again, so that only the loop is measured."""

    def __init__(self) -> None:
        self.batch = (torch.randn(8, 4), torch.randint(0, 2, (8,)))

    def __len__(self) -> int:
        return STEPS

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ARG002 - the same in all
        for _ in range(first_step, STEPS):
            yield self.batch


def trainee() -> Trainee:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return Trainee(model, nn.CrossEntropyLoss(reduction="none"), optimizer, scheduler)


def main() -> None:
    torch.set_num_threads(1)
    ours, bare, batches = trainee(), trainee(), Made()

    def with_fit() -> int:
        list(fit(ours, batches, lambda _: {}, seed=0, epochs=1))
        return STEPS

    def bare_loop() -> int:
        loss = nn.CrossEntropyLoss()
        for images, labels in batches.epoch(1):
            bare.optimizer.zero_grad(set_to_none=True)
            loss(bare.model(images), labels).backward()
            bare.optimizer.step()
        return STEPS

    compare("Steps of a linear network, batch of 8", "steps", {"fit": with_fit, "bare loop": bare_loop})


if __name__ == "__main__":
    main()
