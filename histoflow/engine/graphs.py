"""A whole step recorded once as a CUDA graph and then replayed: one launch in the place of hundreds.

A graph repeats the same kernels on the same memory. So what differs between steps is written into that
memory beforehand: which images make the batch, the seeds of chance, and (by the schedule) the learning
rate. The first steps of each shape are taken one kernel at a time, as CUDA wants it before recording; they
are steps like all others.
"""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        # One for all recordings, as a step leaves nothing in it but its loss, which is copied out.
        self._pool = torch.cuda.graph_pool_handle()
        self._places: dict[int, Tensor] = {}
        self._seen: dict[Any, int] = defaultdict(int)
        self._recorded: dict[Any, _Recorded] = {}

    def take_steps(self, seed: int, epoch: int, first_step: int) -> Iterator[Taken]:
        """The rest of an epoch's steps, each once the device was told to take it."""
        side = self._batches.side(epoch)
        self._forget_other_phases(side)
        for number, places in enumerate(self._batches.places(epoch, first_step), start=first_step):
            self._reseed(derive(seed, Stream.STEP, epoch, number))
            self._augment.manual_seed(self._batches.chance(epoch, number))
            yield self._take(places, side), len(places)

    def _forget_other_phases(self, side: int | None) -> None:
        """Sides grow and frozen parameters thaw; what was recorded before does not come again."""
        phase = (side, self._step.trained())
        self._recorded = {shape: graph for shape, graph in self._recorded.items() if shape[1:] == phase}

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
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._give_up(error)
        return not self._gave_up

    def _give_up(self, reason: Exception) -> None:
        self._gave_up = True
        self._refused(reason)

    def _put(self, places: NDArray[np.int64]) -> None:
        """Tell the recorded memory which images make the batch."""
        count = len(places)
        if count not in self._places:
            self._places[count] = torch.empty(count, dtype=torch.int64, device=self._device)
        self._places[count].copy_(torch.from_numpy(places).pin_memory(), non_blocking=True)

    def _one_by_one(self, count: int, side: int | None) -> Tensor:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream), _watching_for_looks() as looks:
            loss = self._whole_step(count, side)
            self._step.after()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        if looks and not self._gave_up:  # found out before recording, which would leave CUDA in disorder
            self._give_up(RuntimeError(looks[0]))
        return loss

    def _record(self, count: int, side: int | None) -> _Recorded:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self._augment)
        current = torch.cuda.current_stream(self._device)
        with (
            _recording,  # one at a time: a recording takes over the memory of the whole device
            torch.cuda.stream(current),
            torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"),
        ):
            loss = self._whole_step(count, side)
        return _Recorded(graph, loss)

    def _whole_step(self, count: int, side: int | None) -> Tensor:
        return self._step.take(self._batches.make(self._places[count], self._augment, side))


@contextmanager
def _watching_for_looks() -> Iterator[list[str]]:
    """What inside waits for the device so that the host can look at its memory, by torch's own words."""
    looks: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield looks
    finally:
        torch.cuda.set_sync_debug_mode(before)
    messages = [str(warning.message) for warning in told]
    looks += [message for message in messages if "synchronizing CUDA operation" in message]


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
    for state in optimizer.state.values():
        if isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)
    # torch warns of steps that are not recorded; those of the warming up are not.
    optimizer._warned_capturable_if_run_uncaptured = True
    return True


def make_plain(optimizer: Optimizer) -> None:
    """Undo it, in a state that was saved by a session which recorded."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = False
        group["lr"] = float(group["lr"])
