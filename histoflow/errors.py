"""Everything that histoflow raises on purpose.

    HistoflowError                  exit code 1
    ├── UserError                   exit code 2: what was asked cannot be done as asked
    │   ├── ExperimentError         the experiment is not valid; carries every problem found
    │   ├── PluginError             a component is not what the contract says
    │   ├── DataError               data are missing, damaged, or contradict their data set's facts
    │   │   ├── UnreadableImage     this one image cannot be used: it goes into quarantine
    │   │   └── AuditError          the audit found what the experiment refuses to train on
    │   ├── RunError                a run is missing, busy, or of another schema
    │   ├── CheckpointError         a checkpoint is damaged or does not fit
    │   ├── BundleError             an exported model cannot be made, is damaged, or does not fit in here
    │   ├── DeviceError             the device asked for is not there
    │   └── HomeError               the home folder cannot be written
    ├── StorageError                the disk is full or failed while writing
    ├── DivergedError               training left the finite numbers
    ├── TimeLimitError              training ran out of its time before there was a model
    ├── DeviceMemoryError           a batch does not fit into the device's memory
    ├── TeamError                   of the processes that work together, one ended before its time
    ├── ExplanationError            a network does not show where it looks, or how it sees images
    ├── TuningError                 no trial of a study came to its end, or all fail alike
    └── Stopped                     the process was asked to end, and did where nothing was half done

A message says what was wrong, what is allowed, what was given, and the next step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HistoflowError(Exception):
    """The base of all; catching it catches what histoflow raises on purpose."""

    exit_code = 1


class UserError(HistoflowError):
    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in an experiment: where it stands, and what to do about it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ExperimentError(UserError):
    def __init__(self, problems: Sequence[Problem], source: str = "the experiment") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = "1 mistake" if len(self.problems) == 1 else f"{len(self.problems)} mistakes"
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} in {source}:\n{lines}")


class PluginError(UserError): ...


class DataError(UserError): ...


class UnreadableImage(DataError): ...


class AuditError(DataError): ...


class RunError(UserError): ...


class CheckpointError(UserError): ...


class BundleError(UserError): ...


class DeviceError(UserError): ...


class HomeError(UserError): ...


class StorageError(HistoflowError): ...


class DivergedError(HistoflowError):
    step: tuple[int, int] | None = None
    """The epoch and the step, where it was in one."""


class TimeLimitError(HistoflowError): ...


class DeviceMemoryError(HistoflowError): ...


class TeamError(HistoflowError): ...


class ExplanationError(HistoflowError): ...


class Stopped(HistoflowError): ...


class TuningError(HistoflowError): ...
