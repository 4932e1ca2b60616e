"""Finds, by trying, how large a batch may be and how high a learning rate."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch.optim import Optimizer

from histoflow.engine.step import Batches, Manner, Step, Trainee, chance_of
from histoflow.errors import DivergedError, PluginError
from histoflow.seeds import Stream, series

# ── The batch size ──────────────────────────────────────────────────────────────────────────────

SMALLEST = 16
"""The first batch size to be tried; it is doubled from there."""
MAY_FILL = 0.9
"""Share of the device's memory: other batches and the validation take it in other pieces."""
NEARLY = 0.95
"""Of the best speed; a smaller batch that reaches it is the better one."""


@dataclass(frozen=True)
class Found:
    size: int
    why: str


def doubling(most: int) -> Iterator[int]:
    """Batch sizes to try, none larger than this."""
    size = min(SMALLEST, most)
    while size <= most:
        yield size
        size *= 2


def largest_that_fits(peak_of: Callable[[int], int], sizes: Iterable[int], memory: int) -> Found:
    """``peak_of`` tries a batch of this size, and returns the bytes that it took at most."""
    fitting, tried, peak = 0, 0, 0
    for tried in sizes:
        needed = _peak_or_none(peak_of, tried)
        if needed is None or needed > MAY_FILL * memory:
            break
        fitting, peak = tried, needed
    if not fitting:
        return _smaller(peak_of, tried, memory)
    filled = f"{peak / 1e9:.3g} of {memory / 1e9:.3g} GB of memory"
    if tried > fitting:
        return Found(fitting, f"takes {filled}; {tried} images would take more than {MAY_FILL:.0%}")
    return Found(fitting, f"takes {filled}; larger ones would need more training images")


def _smaller(peak_of: Callable[[int], int], size: int, memory: int) -> Found:
    while size > 2:
        size //= 2
        needed = _peak_or_none(peak_of, size)
        if needed is not None and needed <= MAY_FILL * memory:
            return Found(size, f"takes {needed / 1e9:.3g} of {memory / 1e9:.3g} GB of memory")
    return Found(size, f"even the smallest batch fills {memory / 1e9:.3g} GB of memory")


def _peak_or_none(peak_of: Callable[[int], int], size: int) -> int | None:
    """None where memory ran out; what the trial held is given back."""
    try:
        return peak_of(size)
    except torch.OutOfMemoryError:
        return None
    finally:
        give_back_memory()  # the exception is gone by now, and with it the tensors on its stack


def give_back_memory() -> None:
    """To the device, what nothing uses any more."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()


def fastest(
    speed_of: Callable[[int], float],
    sizes: Iterable[int],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:
    """The smallest size that is nearly the fastest, where ``speed_of`` measures images a second.

    The search ends when time would run out, or after two sizes in a row that were no faster.
    """
    speeds: dict[int, float] = {}
    end = clock() + seconds
    for size in sizes:
        begun = clock()
        speeds[size] = speed_of(size)
        took = clock() - begun
        if _grows_no_more(list(speeds.values())) or clock() + 2 * took > end:
            break
    best = max(speeds.values())
    chosen = min(size for size, speed in speeds.items() if speed >= NEARLY * best)
    compared = f"the best of {', '.join(map(str, speeds))} reached {best:,.0f}"
    return Found(chosen, f"{speeds[chosen]:,.0f} images/s, where {compared}")


def _grows_no_more(speeds: Sequence[float]) -> bool:
    return len(speeds) > 2 and max(speeds[-2:]) * NEARLY <= max(speeds[:-2])


# ── The learning rate ───────────────────────────────────────────────────────────────────────────

FEWEST = 20
"""Steps of a range test; fewer show nothing but chance."""
GIVE_UP = 4.0
"""A loss that is so many times its least has left for good."""
_KEEPS = 0.9
_SETTLE = 5
"""Steps before which a loss that falls, or leaves, says nothing."""


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """The loss while the learning rate grew (Smith 2017)."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The mean of the losses around each, of which the nearest count most."""
        reach = max(2, len(self.losses) // 20)
        near = np.bartlett(2 * reach + 3)[1:-1]
        whole, there = np.pad(self.losses, reach), np.pad(np.ones(len(self.losses)), reach)
        return tuple((np.convolve(whole, near, "valid") / np.convolve(there, near, "valid")).tolist())

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it never fell."""
        end = self._lowest() + 1
        if end < _SETTLE:
            return None
        slopes = np.gradient(self.smoothed[:end], np.log(self.rates[:end]))
        place = int(np.argmin(slopes))
        return self.rates[place] if slopes[place] < 0 else None

    @property
    def tenth_of_best(self) -> float | None:
        """A tenth of the rate at which the smoothed loss was least; None where it never fell."""
        return None if self.steepest is None else self.rates[self._lowest()] / 10

    def _lowest(self) -> int:
        return int(np.argmin(self.smoothed))


class _Recent:
    """The mean of the latest values, in which the first count no more than others."""

    def __init__(self) -> None:
        self._mean, self._count = 0.0, 0

    def add(self, value: float) -> float:
        self._mean = _KEEPS * self._mean + (1 - _KEEPS) * value
        self._count += 1
        return self._mean / (1 - _KEEPS**self._count)


def growing(lowest: float, highest: float, steps: int) -> list[float]:
    """Rates that grow by the same factor from step to step."""
    return [float(rate) for rate in np.geomspace(lowest, highest, steps)]


def range_test(
    trainee: Trainee,
    batches: Batches,
    rates: Sequence[float],
    base: float,
    *,
    seed: int,
    manner: Manner,
    done: Callable[[], None] = lambda: None,
) -> RangeTest:
    """Train a step at each rate, until the loss leaves for good.

    ``base`` is the learning rate that the optimizer was built with: a group whose own is twice as high
    keeps that distance.
    """
    shares = _shares(trainee.optimizer, base)
    trained = _losses(trainee, batches, seed, manner)
    losses: list[float] = []
    recent, least = _Recent(), math.inf
    for rate in rates:
        for group, share in zip(trainee.optimizer.param_groups, shares, strict=True):
            group["lr"] = share * rate
        losses.append(next(trained))
        done()
        mean = recent.add(losses[-1])
        least = min(least, mean)
        if not math.isfinite(mean) or mean > GIVE_UP * least > 0:
            break
    trained.close()
    return _usable(RangeTest(rates=tuple(rates[: len(losses)]), losses=tuple(losses)))


def _shares(optimizer: Optimizer, base: float) -> list[float]:
    if any("lr" not in group for group in optimizer.param_groups):
        raise PluginError(
            f"The optimizer must keep its learning rate as 'lr' in each parameter group for a test of "
            f"learning rates. Got {type(optimizer).__name__}, which does not. Choose another optimizer."
        )
    # A schedule that warms up has lowered the rate already.
    return [float(group.get("initial_lr", group["lr"])) / base for group in optimizer.param_groups]


def _losses(trainee: Trainee, batches: Batches, seed: int, manner: Manner) -> Generator[float, None, None]:
    """One for each step of as many epochs as are asked for, taken when asked."""
    step = Step(trainee, manner)
    reseed = chance_of(next(trainee.model.parameters()).device)
    trainee.prepare(1)
    for epoch in count(1):
        seeds = series(seed, Stream.STEP, epoch)
        for number, batch in enumerate(batches.epoch(epoch)):
            reseed(seeds(number))
            yield float(step(batch))


def _usable(test: RangeTest) -> RangeTest:
    """Without a last loss that is not finite, which no figure shows."""
    finite = len(test.losses) - (not math.isfinite(test.losses[-1]))
    if finite < _SETTLE:
        raise DivergedError(
            f"The loss left at once: after {len(test.losses)} steps, at a learning rate of "
            f"{test.rates[len(test.losses) - 1]:.3g}, it is {test.losses[-1]:.4g}. "
            f"Start from a lower rate (--from)."
        )
    return RangeTest(rates=test.rates[:finite], losses=test.losses[:finite])
