"""A whole step recorded once as a CUDA graph and then replayed: one launch in the place of hundreds.

A graph repeats the same kernels on the same memory. So what differs between steps is written into that
memory beforehand: which images make the batch, the seeds of chance, and (by the schedule) the learning
rate. The first steps of each shape are taken one kernel at a time, as CUDA wants it before recording; they
are steps like all others.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.optim import Optimizer

from histoflow.engine.batch import Batch
from histoflow.engine.step import Reseed, Step, Taken
from histoflow.seeds import Stream, derive

_WARM_UP = 3
"""Steps before recording, in which libraries choose their algorithms and states are made."""
_recording = threading.Lock()


class ResidentBatches(Protocol):
    """Batches that the device makes alone, from where in the split their images stand."""

    is_resident: bool

    def __len__(self) -> int: ...
    def places(self, epoch: int, first_step: int = 0) -> Iterator[NDArray[np.int64]]: ...
    def chance(self, epoch: int, step: int) -> int: ...
    def side(self, epoch: int) -> int | None: ...
    def make(self, places: Tensor, generator: Generator, side: int | None) -> Batch: ...


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    loss: Tensor
    """Where each replay leaves the mean loss."""


class Recorder:
    """Takes steps on batches that lie on the device, recording those of a shape that comes often."""

    def __init__(
        self,
        step: Step,
        batches: ResidentBatches,
        device: torch.device,
        reseed: Reseed,
        refused: Callable[[Exception], None],
    ) -> None:
        self._step, self._batches, self._device, self._reseed = step, batches, device, reseed
        self._refused = refused
        self._gave_up = False
        self._augment = Generator(device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._places: dict[int, Tensor] = {}
        self._seen: dict[Any, int] = defaultdict(int)
        self._recorded: dict[Any, _Recorded] = {}

    def take_steps(self, seed: int, epoch: int, first_step: int) -> Iterator[Taken]:
        """The rest of an epoch's steps, each once the device was told to take it."""
        side = self._batches.side(epoch)
        for number, places in enumerate(self._batches.places(epoch, first_step), start=first_step):
            self._reseed(derive(seed, Stream.STEP, epoch, number))
            self._augment.manual_seed(self._batches.chance(epoch, number))
            yield self._take(places, side), len(places)

    def _take(self, places: NDArray[np.int64], side: int | None) -> Tensor:
        # What is frozen is a part of the recording: other gradients, other kernels.
        shape = (len(places), side, self._step.trained())
        self._put(places)
        if not self._is_recorded(shape):
            return self._one_by_one(len(places), side)
        recorded = self._recorded[shape]
        recorded.graph.replay()
        self._step.after()
        return recorded.loss.clone()

    def _is_recorded(self, shape: tuple[int, int | None, Any]) -> bool:
        if shape in self._recorded or self._gave_up:
            return shape in self._recorded
        self._seen[shape] += 1
        if self._seen[shape] <= _WARM_UP:
            return False
        try:
            self._recorded[shape] = self._record(*shape[:2])
        except RuntimeError as error:  # a component looks at the device's memory from the host
            self._gave_up = True
            self._refused(error)
        return not self._gave_up

    def _put(self, places: NDArray[np.int64]) -> None:
        """Tell the recorded memory which images make the batch."""
        count = len(places)
        if count not in self._places:
            self._places[count] = torch.empty(count, dtype=torch.int64, device=self._device)
        self._places[count].copy_(torch.from_numpy(places).pin_memory(), non_blocking=True)

    def _one_by_one(self, count: int, side: int | None) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            loss = self._whole_step(count, side)
            self._step.after()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return loss

    def _record(self, count: int, side: int | None) -> _Recorded:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._augment)
        # One at a time: a recording takes over the memory of the whole device.
        with _recording, torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            loss = self._whole_step(count, side)
        return _Recorded(graph, loss)

    def _whole_step(self, count: int, side: int | None) -> Tensor:
        return self._step.take(self._batches.make(self._places[count], self._augment, side))


def make_recordable(optimizer: Optimizer, device: torch.device) -> bool:
    """Let the optimizer read its learning rate from the device; False where it cannot be recorded.

    To be called once the schedule was built and saved states were put back, which bring their own rate.
    """
    fused = all(group.get("fused") for group in optimizer.param_groups)
    capturable = all("capturable" in group for group in optimizer.param_groups)
    if not (fused or capturable):
        return False
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
        group["lr"] = torch.tensor(float(group["lr"]), device=device)
    return True


def make_plain(optimizer: Optimizer) -> None:
    """Undo it, in a state that was saved by a session which recorded."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = False
        group["lr"] = float(group["lr"])
