"""How a run is computed on the machine that it finds: each decision with the reason for it.

A pure function of what was asked, what the machine is and how much work there is, so that the same run
on the same machine is always computed in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch

from histoflow.engine.device import Machine
from histoflow.errors import DeviceError

T = TypeVar("T")
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Residence = Literal["device", "host", "stream"]

COMPILING_REPAYS_AFTER = 50_000
"""Steps: compiling takes about a minute, and then saves one or two milliseconds a step."""
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Wishes(Protocol):
    """What the experiment asks for; ``auto`` leaves it to this module."""

    @property
    def devices(self) -> int: ...
    @property
    def precision(self) -> Literal["auto"] | Precision: ...
    @property
    def channels_last(self) -> str: ...
    @property
    def compile(self) -> str: ...
    @property
    def graphs(self) -> str: ...
    @property
    def deterministic(self) -> bool: ...
    @property
    def data(self) -> Literal["auto"] | Residence: ...
    @property
    def memory_share(self) -> float: ...
    @property
    def threads(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Workload:
    """How much there is to do; None where the data are not packed yet."""

    epochs: int
    steps_per_epoch: int | None
    image_bytes: int | None
    """Of all packed training and validation images."""


@dataclass(frozen=True)
class Decision(Generic[T]):
    value: T
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    precision: Decision[Precision]
    channels_last: Decision[bool]
    compile: Decision[bool]
    graphs: Decision[bool]
    data: Decision[Residence]
    threads: Decision[int]

    @property
    def dtype(self) -> torch.dtype | None:
        """What autocast computes in; None where nothing is cast."""
        return _DTYPES.get(self.precision.value)

    def values(self) -> dict[str, Any]:
        return {name: decision.value for name, decision in self}

    def __iter__(self) -> Iterator[tuple[str, Decision[Any]]]:
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def decide(wishes: Wishes, machine: Machine, work: Workload) -> Plan:
    """The plan for this work on this machine, or a DeviceError that names the wish it cannot fulfil."""
    precision, data = _precision(wishes, machine), _data(wishes, machine, work)
    obstacle = _obstacle_to_graphs(wishes, machine, precision.value, data.value, work)
    return Plan(
        precision=precision,
        channels_last=_channels_last(wishes),
        compile=_compile(wishes, machine, work),
        graphs=_graphs(wishes, obstacle),
        data=data,
        threads=_threads(wishes, machine),
    )


# ── The decisions ───────────────────────────────────────────────────────────────────────────────


def _precision(wishes: Wishes, machine: Machine) -> Decision[Precision]:
    if wishes.precision != "auto":
        _refuse_precision(wishes.precision, machine)
        return Decision(wishes.precision, _ASKED)
    if not machine.is_gpu:
        if machine.bf16:
            return Decision("fp32", "exact; bf16, which this CPU has too, is faster for large networks")
        return Decision("fp32", "the CPU has nothing faster")
    if machine.bf16:
        return Decision("bf16", "the GPU has it; several times as fast as fp32, and of the same range")
    if machine.fp16:
        return Decision("fp16", "the GPU has no bf16; losses are scaled so that small gradients survive")
    return Decision("fp32", "the GPU has nothing faster")


def _refuse_precision(asked: str, machine: Machine) -> None:
    known = {"fp32": True, "tf32": machine.tf32, "bf16": machine.bf16, "fp16": machine.fp16}
    if known[asked]:
        return
    legal = ", ".join(["auto", *(name for name, there in known.items() if there)])
    emulated = " Emulated, bf16 is up to 25 times slower than fp32." if asked == "bf16" else ""
    raise DeviceError(
        f"compute.precision must be one of {legal} on this device ({machine.name}). Got {asked}.{emulated} "
        f"Use compute.precision=auto."
    )


def _channels_last(wishes: Wishes) -> Decision[bool]:
    if wishes.channels_last != "auto":
        return Decision(wishes.channels_last == "on", _ASKED)
    return Decision(True, "images are stored so, and convolutions are faster")


def _compile(wishes: Wishes, machine: Machine, work: Workload) -> Decision[bool]:
    if wishes.compile != "auto":
        return Decision(wishes.compile == "on", _ASKED)
    if not machine.is_gpu:
        return Decision(False, "on a CPU it seldom repays the minute that it takes")
    if not machine.compiles:
        return Decision(False, "it needs triton and a C compiler, and does not find both")
    if work.steps_per_epoch is None:
        return Decision(False, f"decided once the data are packed: on from {COMPILING_REPAYS_AFTER:,} steps")
    steps = work.epochs * work.steps_per_epoch
    long = steps >= COMPILING_REPAYS_AFTER
    compared = "enough" if long else "too few"
    return Decision(long, f"{steps:,} steps are {compared} to repay it (from {COMPILING_REPAYS_AFTER:,})")


def _graphs(wishes: Wishes, obstacle: str | None) -> Decision[bool]:
    if wishes.graphs == "off":
        return Decision(False, _ASKED)
    if wishes.graphs == "on" and obstacle:
        raise DeviceError(f"compute.graphs cannot be on: {obstacle}. Use compute.graphs=auto.")
    if obstacle:
        return Decision(False, obstacle)
    return Decision(True, _ASKED if wishes.graphs == "on" else "saves the launch of every kernel of a step")


def _obstacle_to_graphs(
    wishes: Wishes, machine: Machine, precision: Precision, data: Residence, work: Workload
) -> str | None:
    if not machine.is_gpu:
        return "only CUDA devices record steps"
    if wishes.devices > 1:
        return "several devices exchange gradients within a step"
    if precision == "fp16":
        return "scaling the losses of fp16 looks at each gradient on the host"
    if data != "device" and (work.image_bytes is not None or wishes.data != "auto"):
        return "the images do not lie in the device's memory"
    return None


def _data(wishes: Wishes, machine: Machine, work: Workload) -> Decision[Residence]:
    if wishes.data != "auto":
        return Decision(wishes.data, _ASKED)
    if work.image_bytes is None:
        return Decision("host", "decided once the data are packed")
    size = f"the images' {_size(work.image_bytes)}"
    if machine.is_gpu and work.image_bytes <= wishes.memory_share * machine.memory:
        return Decision("device", f"{size} fit into the GPU's {_size(machine.memory)}")
    if work.image_bytes <= wishes.memory_share * machine.host_memory:
        return Decision("host", f"{size} fit into the host's {_size(machine.host_memory)}")
    share = f"{wishes.memory_share:.0%} of the host's {_size(machine.host_memory)}"
    return Decision("stream", f"{size} are more than {share}")


def _threads(wishes: Wishes, machine: Machine) -> Decision[int]:
    if wishes.threads is not None:
        return Decision(wishes.threads, _ASKED)
    sharing = 1 if machine.is_gpu else wishes.devices
    each = max(1, machine.cores // sharing)
    there = f"{machine.cores} {'core' if machine.cores == 1 else 'cores'}"
    return Decision(each, there + (f" for {sharing} processes" if sharing > 1 else ""))


_ASKED = "asked for"


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
