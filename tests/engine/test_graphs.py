"""A step that is recorded and replayed does what a step taken kernel by kernel does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from histoflow.engine.average import Average
from histoflow.engine.batch import Batch
from histoflow.engine.fit import Epoch, fit
from histoflow.engine.graphs import make_plain, make_recordable
from histoflow.engine.step import Manner, Trainee
from histoflow.seeds import Stream, derive

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = torch.device("cuda")


class Resident:
    """Images on the GPU, changed by chance in every batch; the last batch of an epoch is smaller."""

    is_resident = True

    def __init__(self, looks_from_the_host: bool = False) -> None:
        chance = torch.Generator().manual_seed(3)
        self.images = torch.randn(72, 2, 6, 6, generator=chance).to(GPU)
        self.labels = (self.images.mean(dim=(1, 2, 3)) > 0).long()
        self.looks_from_the_host = looks_from_the_host

    def __len__(self) -> int:
        return 9

    def places(self, epoch: int, first_step: int = 0) -> Iterator[NDArray[np.int64]]:
        order = np.random.default_rng(epoch).permutation(72)[:68]
        yield from np.split(order, range(8, 68, 8))[first_step:]

    def chance(self, epoch: int, step: int) -> int:
        return derive(7, Stream.AUGMENT, epoch, step)

    def side(self, epoch: int) -> int | None:
        return None

    def make(self, places: Tensor, generator: Generator, side: int | None) -> Batch:
        images = self.images[places]
        if self.looks_from_the_host and float(images.sum()) > 1e9:
            images = -images
        noise = torch.rand(images.shape, generator=generator, device=images.device)
        return Batch(images + 0.1 * noise, self.labels[places])

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        generator = Generator(GPU)
        for step, places in enumerate(self.places(epoch, first_step), start=first_step):
            generator.manual_seed(self.chance(epoch, step))
            yield self.make(torch.from_numpy(places).to(GPU), generator, None)


def trainee(optimizer: str = "adam") -> Trainee:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 2)
    ).to(GPU)
    made: torch.optim.Optimizer
    if optimizer == "adam":
        made = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    else:
        made = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(made, lambda step: 1 / (1 + step))
    recordable = make_recordable(made, GPU)
    loss = nn.CrossEntropyLoss(reduction="none")
    average = Average(model, "ema", decay=0.9)
    return Trainee(model, loss, made, schedule, "step", average=average, recordable=recordable)


def trained(graphs: bool, optimizer: str) -> tuple[list[float], dict[str, Tensor]]:
    ours = trainee(optimizer)
    epochs = list(fit(ours, Resident(), lambda _: {}, seed=5, epochs=3, manner=Manner(graphs=graphs)))
    return [epoch.train_loss for epoch in epochs if isinstance(epoch, Epoch)], {
        **ours.model.state_dict(),
        **{f"average {name}": tensor for name, tensor in ours.kept.state_dict().items()},
    }


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_recorded_steps_give_the_weights_of_steps_taken_one_by_one(optimizer: str) -> None:
    """With dropout, augmentation, a schedule by the step, an average, and a last batch of another size."""
    losses, weights = trained(True, optimizer)
    others, expected = trained(False, optimizer)
    assert losses == pytest.approx(others, rel=1e-5)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_a_component_that_looks_from_the_host_is_told_and_does_without() -> None:
    told: list[Exception] = []
    manner = Manner(graphs=True, without_graphs=told.append)
    batches = Resident(looks_from_the_host=True)
    epochs = list(fit(trainee(), batches, lambda _: {}, seed=5, epochs=2, manner=manner))
    assert len(epochs) == 2
    assert len(told) == 1


def test_an_optimizer_reads_its_learning_rate_from_the_device_or_is_left_alone() -> None:
    weights = [nn.Parameter(torch.zeros(3))]
    cpu = torch.device("cpu")
    adam = torch.optim.Adam(weights, lr=0.01)
    assert make_recordable(adam, cpu)
    assert isinstance(adam.param_groups[0]["lr"], Tensor)
    assert adam.param_groups[0]["capturable"]
    make_plain(adam)
    assert adam.param_groups[0]["lr"] == pytest.approx(0.01)
    assert not adam.param_groups[0]["capturable"]
    plain = torch.optim.SGD(weights, lr=0.01)
    assert not make_recordable(plain, cpu)
    assert plain.param_groups[0]["lr"] == 0.01
