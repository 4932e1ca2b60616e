"""Has a run trained by several processes, which torch's own launcher starts and ends together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from histoflow import errors, progress, stopping
from histoflow.engine.device import choose_device, cores
from histoflow.errors import DeviceError, HistoflowError, Stopped, TeamError
from histoflow.experiment import Experiment
from histoflow.progress import Advance
from histoflow.runs import Run
from histoflow.team.wire import (
    Advanced,
    Began,
    Ended,
    EpochDone,
    Failed,
    GoOn,
    Order,
    Said,
    Stop,
    Switchboard,
    Told,
)

LOG = "team.log"
_LOOK_EVERY = 0.1
"""Seconds."""
_STOPPING_MAY_TAKE = 120.0
"""Seconds from the word to the end of the processes: what is under way, and a checkpoint."""
_ENDING_MAY_TAKE = 10.0
"""Seconds that the launcher has to end the processes before it is killed, and they with it."""


def train_together(
    experiment: Experiment, packed: Path, run: Run, *, profile: bool = False
) -> Generator[dict[str, Any], None, None]:
    """Train with ``compute.devices`` processes, yielding each epoch's entry of history.json once it is saved.

    The caller holds the run's lock. Once ``stopping.asked()``, it ends after a last checkpoint. The
    processes know the plugins that are installed, and no others.
    """
    _refuse_what_is_not_there(experiment)
    with _team(experiment, packed, run, profile) as team:
        yield from team.epochs()


def _refuse_what_is_not_there(experiment: Experiment) -> None:
    compute = experiment.compute
    device = choose_device(compute.device)
    if device.index is not None:
        raise DeviceError(
            f"compute.device must be auto, cpu or cuda where compute.devices is {compute.devices}: several "
            f"devices take the GPUs from the first one on. Got {compute.device}. Use compute.devices=1."
        )
    if device.type == "cuda" and compute.devices > torch.cuda.device_count():
        raise DeviceError(
            f"compute.devices must be at most {torch.cuda.device_count()}, the GPUs that torch sees. "
            f"Got {compute.devices}. Lower it, or train on several machines (docs/many-gpus.md)."
        )


@contextmanager
def _team(experiment: Experiment, packed: Path, run: Run, profile: bool) -> Iterator[_Team]:
    switchboard = Switchboard(Order(experiment.to_data(), str(packed), profile))
    try:
        with (run.folder / LOG).open("w") as output:
            launcher = _launch(experiment.compute.devices, run.folder, switchboard, output.fileno())
        team = _Team(launcher, switchboard, run)
        try:
            yield team
        finally:
            team.end()
    finally:
        switchboard.close()


def _launch(devices: int, folder: Path, switchboard: Switchboard, output: int) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C reaches this process alone, which passes the word on."""
    together = ["--standalone", "--nproc-per-node", str(devices), "--max-restarts", "0"]
    command = ["-m", "torch.distributed.run", *together, "-m", "histoflow.team.member", str(folder)]
    # Without a word the launcher would leave each process one thread, and the plan shares out the cores.
    environment = {"OMP_NUM_THREADS": str(cores())} | os.environ | switchboard.environment
    return subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


class _Team:
    """The processes under their launcher."""

    def __init__(self, launcher: subprocess.Popen[bytes], switchboard: Switchboard, run: Run) -> None:
        self._launcher, self._switchboard, self._run = launcher, switchboard, run
        self._shown = _Shown()
        self._failures: list[Failed] = []
        self._deadline: float | None = None

    def epochs(self) -> Generator[dict[str, Any], None, None]:
        """Until the processes have ended; raises the error that ended them."""
        for message in self._messages():
            if isinstance(message, EpochDone):
                yield dict(message.entry)
                self._switchboard.tell_all(GoOn())
            elif isinstance(message, Failed):
                self._failures.append(message)
            else:
                self._shown.show(message)
        if self._launcher.returncode:
            raise self._error()
        if self._deadline is not None and self._run.read().stopped is None:
            stopping.give_way()

    def end(self) -> None:
        """No process stays."""
        self._shown.over()
        self._switchboard.tell_all(Stop())
        _wait(self._launcher, _STOPPING_MAY_TAKE if self._deadline is None else 0)
        if self._launcher.returncode == 0:
            (self._run.folder / LOG).unlink()

    def _messages(self) -> Iterator[Any]:
        """All that the processes say, until the last of them has ended and nothing is left unheard."""
        while True:
            ended = self._launcher.poll() is not None
            self._pass_on_the_word()
            message = self._heard()
            if message is not None:
                yield message
            elif ended:
                return

    def _heard(self) -> Any:
        try:
            return self._switchboard.inbox.get(timeout=_LOOK_EVERY)
        except Empty:
            return None

    def _pass_on_the_word(self) -> None:
        if not stopping.asked():
            return
        if self._deadline is None:
            self._deadline = time.monotonic() + _STOPPING_MAY_TAKE
            self._switchboard.tell_all(Stop())
        elif time.monotonic() > self._deadline:
            _wait(self._launcher, 0)

    def _error(self) -> HistoflowError:
        """What ended the processes: what one of them says on purpose, else how the first of them died."""
        for failure in self._failures:
            if failure.kind is not None:
                raised: HistoflowError = getattr(errors, failure.kind)(failure.message)
                return raised
        if self._deadline is not None:
            return Stopped(
                f"Training was asked to stop. Its processes came to no checkpoint within "
                f"{_STOPPING_MAY_TAKE:.0f} s and were ended; it can go on from the last one."
            )
        how = _how_it_died(self._run.folder / LOG, self._launcher.returncode, self._failures)
        return TeamError(
            f"The training by several processes broke off: {how}. All of them have ended, and the last "
            f"checkpoint stays. Go on from there: histoflow train --resume {self._run.id}. What they wrote "
            f"is in {self._run.folder / LOG}."
        )


def _wait(launcher: subprocess.Popen[bytes], patience: float) -> None:
    """For its end, which is not left to itself once patience has ended."""
    for end, seconds in ((_nothing, patience), (launcher.terminate, _ENDING_MAY_TAKE)):
        end()
        try:
            launcher.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _nothing() -> None: ...


_DEATH = re.compile(r"rank\s*:\s*(?P<rank>\d+).*?exitcode\s*:\s*(?P<code>-?\d+)", re.DOTALL)


def _how_it_died(log: Path, exit_code: int, failures: list[Failed]) -> str:
    """By the launcher's report; the processes that lost another one by it fail as well, and do not count."""
    report = log.read_text(errors="replace").rpartition("FAILED")[2]
    deaths = [(int(found["rank"]), int(found["code"])) for found in _DEATH.finditer(report)]
    for rank, code in deaths:
        if code < 0 and code != -signal.SIGTERM:
            return f"process {rank} was ended by {_name_of(-code)}"
    if failures:
        return f"process {failures[0].rank} failed with {failures[0].message}"
    if deaths:
        return f"process {deaths[0][0]} ended with exit code {deaths[0][1]}"
    return f"their launcher ended with exit code {exit_code}"


def _name_of(number: int) -> str:
    """A signal's, with what it usually means."""
    name = signal.Signals(number).name
    return f"{name}, as the system does where memory runs out" if name == "SIGKILL" else name


class _Shown:
    """Shows here, to whoever listens, what the first process tells of its progress."""

    def __init__(self) -> None:
        self._under_way: list[tuple[AbstractContextManager[Advance], Advance]] = []

    def show(self, message: Any) -> None:
        match message:
            case Began(title, total, unit):
                piece = progress.track(title, total, unit)
                self._under_way.append((piece, piece.__enter__()))
            case Advanced(amount):
                self._under_way[-1][1](amount)
            case Ended():
                self._under_way.pop()[0].__exit__(None, None, None)
            case Told(figures):
                progress.tell(figures)
            case Said(line):
                progress.say(line)

    def over(self) -> None:
        while self._under_way:
            self._under_way.pop()[0].__exit__(None, None, None)
