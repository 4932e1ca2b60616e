"""Processes that train together: which of them this is, and what they tell one another.

What each of them decides by itself, such as when an epoch is the best one, they must decide alike; where
only one can know, as of the clock, the first process decides and the others follow.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from histoflow.engine.step import Trainee
from histoflow.seeds import Stream, derive

_AGREE_EVERY = 0.05
"""Seconds between two agreements on whether to pause, each of which takes a fraction of a millisecond."""
_SHORTEST_STEP = 1e-4
"""Seconds."""


class Team:
    """A process that trains alone: it agrees with itself, and waits for nobody."""

    rank = 0
    ranks = 1
    device: torch.device | None = None
    """This process's, where it is one of several."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what is kept, and speaks for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.ranks == 1

    def agree(self, word: int) -> int:
        """The first process's word."""
        return word

    def agree_now_and_then(self, word: Callable[[], int]) -> int:
        """The same after some of the steps, 0 after the others; after which ones, all agree as well."""
        return word()

    def mean(self, values: Tensor) -> Tensor:
        """Over the processes, number by number."""
        return values

    def gathered(self, part: Tensor) -> Tensor:
        """What each process has, one after the other, on the CPU."""
        return part

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The others enter the block once the first process has left it."""
        yield

    def seed(self, seed: int) -> int:
        """Of the chance within a step, which must not be the same for the images of two processes."""
        return seed

    def prepared(self, model: nn.Module) -> nn.Module:
        """The network, with batch norms that see the images of all processes where the device can do that."""
        return model

    def join(self, trainee: Trainee, *, exact: bool) -> None:
        """Let the gradient of each step be that of all processes' images."""

    def align(self, model: nn.Module) -> None:
        """Give all processes the first one's running statistics."""


ALONE = Team()


class Member(Team):
    """One of several processes; torch's process group must have been begun."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.device = device
        self._left = 1
        self._agreed_at = time.monotonic()
        self._between = 1

    def agree(self, word: int) -> int:
        return self._followed([word])[0]

    def agree_now_and_then(self, word: Callable[[], int]) -> int:
        self._left -= 1
        if self._left:
            return 0
        agreed, self._between = self._followed([word(), self._steps_until_next()])
        self._left = self._between
        return agreed

    def _steps_until_next(self) -> int:
        now = time.monotonic()
        a_step = (now - self._agreed_at) / self._between
        self._agreed_at = now
        return max(1, math.floor(_AGREE_EVERY / max(a_step, _SHORTEST_STEP)))

    def _followed(self, words: list[int]) -> list[int]:
        said = torch.tensor(words)
        dist.broadcast(said, src=0)
        return [int(word) for word in said.tolist()]

    def mean(self, values: Tensor) -> Tensor:
        summed = values.double().cpu()
        dist.all_reduce(summed)
        return summed / self.ranks

    def gathered(self, part: Tensor) -> Tensor:
        part = part.cpu()
        counts = self._each(torch.tensor(len(part)))
        padded = part.new_zeros((max(int(count) for count in counts), *part.shape[1:]))
        padded[: len(part)] = part
        return torch.cat(
            [there[: int(count)] for there, count in zip(self._each(padded), counts, strict=True)]
        )

    def _each(self, mine: Tensor) -> list[Tensor]:
        """The tensors of all processes, which have one shape."""
        theirs = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(theirs, mine)
        return theirs

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        if not self.leads:
            self.agree(0)
        yield
        if self.leads:
            self.agree(0)

    def seed(self, seed: int) -> int:
        return seed if self.leads else derive(seed, Stream.STEP, self.rank)

    def prepared(self, model: nn.Module) -> nn.Module:
        if not self._on_gpu:
            return model
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        converted: nn.Module = convert(model)  # type: ignore[no-untyped-call]
        return converted

    def join(self, trainee: Trainee, *, exact: bool) -> None:
        """``exact`` keeps the order in which gradients are added up the same in all steps.

        By itself torch arranges them anew after the first step of a process, so a run that goes on would
        add up in another order than one that was never interrupted.
        """
        with warnings.catch_warnings():
            # The name that torch would have in the place of broadcast_buffers is not in all its versions.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = DistributedDataParallel(
                trainee.model,
                device_ids=[self.device] if self._on_gpu else None,
                broadcast_buffers=False,
                # It is what keeps the arrangement; and frozen parameters have no gradient to wait for.
                find_unused_parameters=exact or trainee.freezing is not None,
            )
        trainee.parallel, trainee.without_exchange = wrapped, wrapped.no_sync

    @property
    def _on_gpu(self) -> bool:
        return self.device is not None and self.device.type == "cuda"

    def align(self, model: nn.Module) -> None:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
