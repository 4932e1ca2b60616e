"""One of the processes that train a run together: ``torchrun … -m histoflow.team.member RUN [PACKED]``.

RUN is the run's folder. Under a leader the rest is told by it. Started by hand, as on several machines,
the processes train the run's own experiment on the data packed in the folder PACKED, and log what they do.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from histoflow import errors, progress, registry, stopping
from histoflow.data.store import PackedStore
from histoflow.engine.device import choose_device
from histoflow.engine.team import Member
from histoflow.errors import DeviceError, HistoflowError, RunError, Stopped
from histoflow.experiment import Experiment, parse
from histoflow.progress import Advance, Figures
from histoflow.runs import Run, RunRecord
from histoflow.team.wire import EpochDone, Failed, GoOn, Order, Stop, Telling, call_leader
from histoflow.training import train_run

_PATIENCE = timedelta(days=7)
"""With the other processes; one that hangs is given up by its own watchdog."""
_GO_ON, _END = 0, 1


class _Onlooker(Run):
    """A run that another process writes."""

    def update(self, **changes: Any) -> RunRecord:
        return self.read().model_copy(update=changes)

    def write_history(self, entries: Sequence[Mapping[str, Any]]) -> None: ...


class _Nobody:
    """Listens to what is said by a process that does not speak for the others."""

    @contextmanager
    def track(self, title: str, total: int | None, unit: str) -> Iterator[Advance]:  # noqa: ARG002
        yield self._advance

    def tell(self, figures: Figures) -> None: ...

    def say(self, message: str) -> None: ...

    def _advance(self, amount: int = 1) -> None: ...


class _Leader:
    """Whoever asked for the training, in another process."""

    def __init__(self, line: Connection[Any, Any]) -> None:
        self.line = line
        self.order: Order = line.recv()
        self._words: Queue[GoOn | Stop] = Queue()
        threading.Thread(target=self._read, name="leader", daemon=True).start()

    def goes_on_after(self, entry: Mapping[str, Any]) -> bool:
        self.line.send(EpochDone(entry))
        return isinstance(self._words.get(), GoOn)

    def _read(self) -> None:
        try:
            while True:
                word = self.line.recv()
                if isinstance(word, Stop):
                    stopping.ask()
                self._words.put(word)
        except (OSError, EOFError):
            os._exit(1)  # at once and without saving: another process may hold the run already


def main(arguments: Sequence[str]) -> None:
    line = call_leader()
    try:
        leader = _Leader(line) if line else None
        _train(Path(arguments[0]), leader, *map(Path, arguments[1:2]))
    except Stopped as stop:
        progress.say(str(stop))
    except Exception as error:
        _fail(error, line)
    dist.destroy_process_group()


def _train(folder: Path, leader: _Leader | None, packed: Path | None = None) -> None:
    experiment, store = _work(Run(folder), leader, packed)
    team = _join_team(experiment)
    run = Run(folder) if team.leads else _Onlooker(folder)
    if leader is None:
        _listen_to_signals()
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    profile = leader is not None and leader.order.profile
    with _voice(team, leader), _hold(run, team, leader):
        epochs = train_run(experiment, store, run, registry.installed(), profile=profile, team=team)
        _drive(epochs, team, leader)


def _drive(epochs: Generator[dict[str, Any], None, None], team: Member, leader: _Leader | None) -> None:
    """Epoch by epoch, as long as the leader asks for more."""
    for entry in epochs:
        word = _GO_ON
        if team.leads and leader and not leader.goes_on_after(entry):
            word = _END
        if team.agree(word) == _END:
            epochs.close()
            return


def _work(run: Run, leader: _Leader | None, packed: Path | None) -> tuple[Experiment, PackedStore]:
    if leader:
        return parse(leader.order.experiment), PackedStore(Path(leader.order.packed))
    record = run.read()
    folder = packed or record.packed
    if folder is None:
        raise RunError(f"Run {run.id} has not begun, so the folder of its packed data must follow the run's.")
    return parse(record.experiment, source=str(run.folder / "run.json")), PackedStore(Path(folder))


def _join_team(experiment: Experiment) -> Member:
    device = choose_device(experiment.compute.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # What is small, and all that must not wait for the GPU, goes through gloo.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    team = Member(device)
    if team.ranks != experiment.compute.devices:
        raise DeviceError(
            f"compute.devices must be the number of processes, which is {team.ranks}. "
            f"Got {experiment.compute.devices}. Change one of the two."
        )
    return team


def _listen_to_signals() -> None:
    """A launcher that is stopped passes the signal on; training ends after a checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.ask())


def _voice(team: Member, leader: _Leader | None) -> AbstractContextManager[None]:
    if not team.leads:
        return progress.listening(_Nobody())
    return progress.listening(Telling(leader.line)) if leader else nullcontext()


def _hold(run: Run, team: Member, leader: _Leader | None) -> AbstractContextManager[None]:
    """Where nobody leads, the first process holds the run."""
    return run.lock() if team.leads and leader is None else nullcontext()


def _fail(error: Exception, line: Connection[Any, Any] | None) -> NoReturn:
    """End at once: an orderly end may wait for the other processes, which may wait for this one."""
    traceback.print_exc()
    if line:
        with suppress(OSError):  # the leader may be gone
            line.send(_failure(error))
    sys.stderr.flush()
    os._exit(1)


def _failure(error: Exception) -> Failed:
    rank = int(os.environ.get("RANK", "0"))
    if isinstance(error, HistoflowError):
        return Failed(rank, _kind(error), str(error))
    return Failed(rank, None, f"{type(error).__name__}: {error}")


def _kind(error: HistoflowError) -> str:
    """The nearest class that takes no more than a message."""
    fitting = (kind for kind in type(error).__mro__ if kind.__name__ in vars(errors))
    return next(kind.__name__ for kind in fitting if kind is not errors.ExperimentError)


if __name__ == "__main__":
    main(sys.argv[1:])
