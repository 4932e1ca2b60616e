"""Where the time of training goes: a trace for torch's viewers, and a table for people.

Two measurements, as each would spoil the other. torch's profiler records a few steps with every operator,
which slows them down. After those, marks tell where one phase of a step ends and the next begins; on a GPU
they are events in its own queue, so that nothing waits for them. Neither changes what is computed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from histoflow import files
from histoflow.engine.profile_table import Costs, Operator, table

if TYPE_CHECKING:
    from histoflow.engine.step import Batches, Trainee

T = TypeVar("T")
_WAIT, _WARM_UP, _RECORDED = 5, 3, 10
"""Steps."""
_ENOUGH = 10
"""Steps without the profiler that make a mean."""
_MOST = 1000
"""Steps that are marked: what a GPU keeps for each mark is not for nothing."""
_SILENT = "99"
_UNMARKED, _VALIDATION, _COPIES = "", "validation", "checkpoint copies"


def prepare() -> None:
    """To be called in the main thread before any training in another one is profiled.

    The profiler complains where it is first used elsewhere; and of its own chatter a user needs nothing.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
    # What watches the GPU must not be ended and begun again where CUDA graphs are replayed: that crashes.
    os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
    os.environ.setdefault("TEARDOWN_CUPTI", "0")
    with profile(activities=[ProfilerActivity.CPU]):
        pass


class Unprofiled:
    """Leaves everything as it is."""

    def trainee(self, trainee: Trainee) -> Trainee:
        """The same, for the steps to train."""
        return trainee

    def batches(self, batches: T) -> T:
        return batches

    def validate(self, validate: T) -> T:
        return validate

    def copying(self) -> AbstractContextManager[None]:
        """Around what waits for a checkpoint."""
        return nullcontext()

    def epoch_ended(self) -> None:
        """Write, if there is enough to tell."""

    def end(self) -> None:
        """Write what there is; no step follows."""


class Profile(Unprofiled):
    """Watches the first steps and the rest of their epoch; writes ``trace.json`` and ``summary.txt``."""

    def __init__(self, folder: Path, about: str, device: torch.device) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._about, self._device = folder, about, device
        self._recorder: profile | None = None
        self._marks: list[tuple[str, int, Any]] = []
        self._step = self._recorded = self._epochs = self._steps_of_epoch = 0
        self._operators: list[Operator] = []
        self._handles: list[Any] = []
        self._is_over = False

    def trainee(self, trainee: Trainee) -> Trainee:
        optimizer = trainee.optimizer
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self.mark("optimizer")),
            optimizer.register_step_post_hook(lambda *_: self.mark("rest of the step")),
        ]
        forward = _Forward(trainee.parallel or trainee.model, self)
        return replace(trainee, parallel=forward, loss=_Loss(trainee.loss, self))

    def batches(self, batches: T) -> T:
        return cast("T", _Marked(cast("Batches", batches), self))

    def validate(self, validate: T) -> T:
        def measured(model: nn.Module) -> Any:
            with self._aside(_VALIDATION):
                return cast("Callable[[nn.Module], Any]", validate)(model)

        return cast("T", measured)

    def copying(self) -> AbstractContextManager[None]:
        return self._aside(_COPIES)

    def epoch_ended(self) -> None:
        self._epochs += 1
        self._stop_recording()  # by the thread that began it, as the next epoch may have another one
        if self._step - self._recorded >= _ENOUGH:
            self._finish()

    def end(self) -> None:
        self._stop_recording()
        if self._step:
            self._finish()

    # ── Told while training ──

    def begin_steps(self, left: int, of: int) -> None:
        """So many of the epoch's steps follow."""
        self._steps_of_epoch = of
        if left and not self._step:
            self._recorder = self._recorder_for(left)
            self._recorder.start()

    def begin_step(self) -> None:
        if self._is_over:
            return
        if self._recorder and self._step:
            self._recorder.step()
        self._step += 1
        self.mark("data")

    def mark(self, phase: str) -> None:
        """From here on it is this phase that takes time."""
        if not self._is_over and self._step - self._recorded <= _MOST and not self._is_being_recorded():
            self._marks.append((phase, self._step, self._now()))

    @contextmanager
    def _aside(self, phase: str) -> Iterator[None]:
        """What belongs to no step."""
        if self._is_over or not self._step:
            yield
            return
        self._marks.append((phase, self._step, self._now()))
        with record_function(phase):
            yield
        self._marks.append((_UNMARKED, self._step, self._now()))

    def _is_being_recorded(self) -> bool:
        """As a CUDA graph, in which a mark would be played again."""
        return self._device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    # ── Time ──

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1000 if self._device.type == "cuda" else end - start

    def _laps(self) -> Iterator[tuple[str, int, float]]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        for (phase, step, start), (_, _, end) in pairwise(self._marks):
            yield phase, step, self._between(start, end)

    # ── What came of it ──

    def _recorder_for(self, steps: int) -> profile:
        """Records a few of these steps; of a short epoch, all."""
        activities = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        enough = steps >= _WAIT + _WARM_UP + _RECORDED
        plan = schedule(wait=_WAIT, warmup=_WARM_UP, active=_RECORDED, repeat=1) if enough else None
        return profile(activities=activities, schedule=plan, on_trace_ready=self._keep_trace)

    def _stop_recording(self) -> None:
        if self._recorder:
            self._recorder.stop()
            self._recorder = None

    def _keep_trace(self, recorded: profile) -> None:
        with files.atomic_file(self._folder / "trace.json") as temporary:
            recorded.export_chrome_trace(str(temporary))
        self._operators = _operators(recorded)
        self._recorded, self._recorder = self._step, None

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        for handle in self._handles:
            handle.remove()
        costs = self._costs()
        self._marks.clear()
        kernels = self._device.type == "cuda"
        files.write_text(
            self._folder / "summary.txt", table(self._about, costs, self._operators, kernels=kernels)
        )

    def _costs(self) -> Costs:
        first, last = self._measured()
        phases: dict[str, float] = defaultdict(float)
        aside: dict[str, float] = defaultdict(float)
        for phase, step, seconds in self._laps():
            if phase in (_VALIDATION, _COPIES):
                aside[phase] += seconds / max(1, self._epochs)
            elif phase != _UNMARKED and first <= step <= last:
                phases[phase] += seconds / (last - first + 1)
        return Costs(
            phases=phases,
            aside=aside,
            steps=self._steps_of_epoch,
            measured=last - first + 1,
            undisturbed=first > self._recorded,
        )

    def _measured(self) -> tuple[int, int]:
        """The steps that make the means: those after the recorded ones, if they are enough."""
        last = self._step
        if last - self._recorded >= _ENOUGH:
            return self._recorded + 1, min(last, self._recorded + _MOST - 1)
        return min(last, 2), last  # the first one is like no other


class _Forward(nn.Module):
    def __init__(self, model: nn.Module, profile: Profile) -> None:
        super().__init__()
        self._model, self._profile = model, profile

    def forward(self, images: Tensor) -> Any:
        self._profile.mark("forward and loss")
        with record_function("forward"):
            return self._model(images)

    def __getattr__(self, name: str) -> Any:
        """Whatever else one asks of the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_model"), name)


class _Loss(nn.Module):
    def __init__(self, loss: nn.Module, profile: Profile) -> None:
        super().__init__()
        self._loss, self._profile = loss, profile

    def forward(self, outputs: Tensor, labels: Tensor) -> Any:
        self._profile.mark("forward and loss")
        with record_function("loss"):
            losses = self._loss(outputs, labels)
        self._profile.mark("backward")
        return losses


class _Marked:
    """Batches that tell when they are waited for."""

    def __init__(self, batches: Batches, profile: Profile) -> None:
        self._batches, self._profile = batches, profile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Any]:
        return self._watched(self._batches.epoch(epoch, first_step), first_step, "rest of the step")

    def places(self, epoch: int, first_step: int = 0) -> Iterator[Any]:
        """Of images that the device gathers itself, as a part of the step that it was told once."""
        places = cast("Any", self._batches).places(epoch, first_step)
        return self._watched(places, first_step, "whole step as one CUDA graph")

    def _watched(self, items: Iterator[T], first_step: int, then: str) -> Iterator[T]:
        self._profile.begin_steps(len(self) - first_step, len(self))
        for _ in range(first_step, len(self)):
            self._profile.begin_step()
            with record_function("data"):
                item = next(items)
            self._profile.mark(then)
            yield item


def _operators(recorded: profile) -> list[Operator]:
    """Those of the CPU and the kernels of the GPU, by the time that each took itself."""
    averages = cast("Iterable[Any]", recorded.key_averages())
    return [
        Operator(
            name=event.key,
            on_gpu=(on_gpu := event.device_type == DeviceType.CUDA),
            seconds=(event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6,
            calls=event.count,
        )
        for event in averages
        if not (getattr(event, "is_user_annotation", False) or event.key.startswith("ProfilerStep"))
    ]
