"""Batch sizes and learning rates found by trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from histoflow.engine.batch import Batch
from histoflow.engine.finders import (
    RangeTest,
    doubling,
    fastest,
    growing,
    largest_that_fits,
    range_test,
)
from histoflow.engine.step import PLAIN, Trainee
from histoflow.errors import DivergedError, PluginError

# ── The batch size ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("most", "sizes"), [(100, [16, 32, 64]), (64, [16, 32, 64]), (16, [16]), (7, [7]), (1, [1])]
)
def test_sizes_double_up_to_the_number_of_images(most: int, sizes: list[int]) -> None:
    assert list(doubling(most)) == sizes


def device_of(memory: int, each: int, tried: list[int]) -> Callable[[int], int]:
    """A device of which each image takes a part, and which refuses what is more than all of it."""

    def peak(size: int) -> int:
        tried.append(size)
        if size * each > memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size * each

    return peak


@pytest.mark.parametrize(
    ("memory", "each", "found", "why"),
    [
        (1000, 1, 512, "takes 0.512 of 1 GB of memory; larger ones would need more training images"),
        (1000, 5, 128, "256 images would take more than 90%"),
        (1100, 4, 128, "256 images would take more than 90%"),  # they fit, but leave no room
        (1000, 100, 8, "takes 0.8 of 1 GB"),
        (1000, 501, 2, "even the smallest batch fills"),
    ],
)
def test_the_largest_batch_leaves_a_tenth_of_the_memory(memory: int, each: int, found: int, why: str) -> None:
    megabyte = 10**6
    device = device_of(memory * megabyte, each * megabyte, [])
    size = largest_that_fits(device, doubling(600), memory * megabyte)
    assert size.size == found
    assert why in size.why


def test_nothing_larger_is_tried_once_memory_ran_out() -> None:
    tried: list[int] = []
    largest_that_fits(device_of(1000, 20, tried), doubling(10**6), 1000)
    assert tried == [16, 32, 64]


def test_an_error_of_another_kind_is_not_taken_for_want_of_memory() -> None:
    def broken(size: int) -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        largest_that_fits(broken, doubling(100), 1000)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_smallest_of_the_fast_batch_sizes_is_taken() -> None:
    speeds = {16: 50.0, 32: 80.0, 64: 97.0, 128: 100.0, 256: 99.0, 512: 98.0, 1024: 500.0}
    found = fastest(speeds.__getitem__, doubling(1024), 20, Clock())
    assert found.size == 64
    assert found.why == "97 images/s, where the best of 16, 32, 64, 128, 256 reached 100"


def test_the_search_ends_before_its_time_is_over() -> None:
    clock = Clock()

    def slow(size: int) -> float:
        clock.now += size / 16  # the next one takes twice as long
        return float(size)

    assert fastest(slow, doubling(10**6), 20, clock).size == 128
    assert clock.now <= 20


# ── The learning rate ───────────────────────────────────────────────────────────────────────────


class Points:
    """A problem that a line solves, in batches that never end."""

    def __len__(self) -> int:
        return 4

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for step in range(first_step, 4):
            chance = torch.Generator().manual_seed(epoch * 4 + step)
            images = torch.randn(32, 2, generator=chance)
            yield Batch(images, images.sum(dim=1))


class Distance(nn.Module):
    def forward(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - labels).square()


def trainee(build: Callable[[nn.Module], torch.optim.Optimizer]) -> Trainee:
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    optimizer = build(network)
    return Trainee(network, Distance(), optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 0.1))


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.01)


def ranged(rates: list[float]) -> RangeTest:
    return range_test(trainee(sgd), Points(), rates, 0.01, seed=0, manner=PLAIN)


def test_a_range_test_ends_where_the_loss_leaves_and_suggests_a_rate_that_learns() -> None:
    test = ranged(growing(1e-4, 100, 120))
    assert len(test.losses) == len(test.rates) < 120, "the loss left before the highest rate"
    assert all(map(math.isfinite, test.losses))
    assert test.steepest is not None
    assert test.tenth_of_best is not None
    # Gradient descent on this problem diverges from a rate of 1 on.
    assert 1e-3 < test.steepest < 1
    assert 1e-3 < test.tenth_of_best < 0.2


def test_the_same_test_finds_the_same() -> None:
    assert ranged(growing(1e-4, 1, 30)) == ranged(growing(1e-4, 1, 30))


def test_rates_grow_by_the_same_factor() -> None:
    assert growing(1e-3, 10, 5) == pytest.approx([1e-3, 1e-2, 0.1, 1, 10])


def test_groups_keep_their_distance_and_a_schedules_warm_up_does_not_count() -> None:
    def grouped(network: nn.Module) -> torch.optim.Optimizer:
        weight, bias = network.parameters()
        groups = [{"params": [weight], "lr": 0.02}, {"params": [bias], "lr": 0.01}]
        return torch.optim.SGD(groups, lr=0.01)

    network = trainee(grouped)
    range_test(network, Points(), [1e-5] * 20 + [1e-4], 0.01, seed=0, manner=PLAIN)
    assert [group["lr"] for group in network.optimizer.param_groups] == pytest.approx([2e-4, 1e-4])


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    rising = RangeTest(rates=tuple(growing(1e-3, 1, 30)), losses=tuple(1 + 0.1 * step for step in range(30)))
    assert rising.steepest is None
    assert rising.tenth_of_best is None


def test_chance_in_single_losses_does_not_decide() -> None:
    """A single lucky batch falls faster than the loss does, but means nothing."""
    rates = growing(1e-5, 1, 100)
    losses = [2.0] * 50 + [2.0 - 0.04 * step for step in range(30)] + [0.8 + 0.2 * s for s in range(20)]
    losses[20] -= 0.3
    found = RangeTest(rates=tuple(rates), losses=tuple(losses))
    assert found.steepest is not None
    assert rates[50] < found.steepest < rates[80]


def test_a_loss_that_leaves_at_once_is_told() -> None:
    with pytest.raises(
        DivergedError, match=r"left at once: after \d steps.*Start from a lower rate \(--from\)"
    ):
        ranged(growing(1e3, 1e6, 40))


def test_an_optimizer_without_a_learning_rate_is_refused() -> None:
    network = trainee(sgd)
    del network.optimizer.param_groups[0]["lr"]
    with pytest.raises(PluginError, match="'lr' in each parameter group.*Got SGD, which does not"):
        range_test(network, Points(), growing(1e-3, 1, 20), 0.01, seed=0, manner=PLAIN)
