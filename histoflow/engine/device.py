"""Which device to work on, and what it can do."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from histoflow.cores import cores as cores
from histoflow.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device, and the facts of it that decide how to compute on it."""

    device: torch.device
    name: str
    memory: int
    """Bytes in all: of the GPU, or of the host where the device is its CPU."""
    host_memory: int
    cores: int
    """Those that this process may use."""
    bf16: bool
    """Whether the hardware itself computes in bf16; emulated, it is slower than fp32."""
    fp16: bool
    tf32: bool
    compiles: bool
    """Whether torch.compile finds what it calls."""

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"The device must be one that is here: torch sees {torch.cuda.device_count()} CUDA devices. "
            f"Got '{name}'. Use auto or cpu."
        )
    return device


def machine_of(device: torch.device) -> Machine:
    """What this device is and can do."""
    return _gpu(device) if device.type == "cuda" else _processor(device)


def _gpu(device: torch.device) -> Machine:
    facts = torch.cuda.get_device_properties(device)
    ampere = facts.major >= 8
    return Machine(
        device=device,
        name=facts.name,
        memory=facts.total_memory,
        host_memory=_host_memory(),
        cores=cores(),
        bf16=ampere,
        fp16=facts.major >= 7,
        tf32=ampere,
        compiles=find_spec("triton") is not None and _has_c_compiler(),
    )


def _processor(device: torch.device) -> Machine:
    total = _host_memory()
    return Machine(
        device=device,
        name=f"CPU with {cores()} {'core' if cores() == 1 else 'cores'}",
        memory=total,
        host_memory=total,
        cores=cores(),
        bf16=_processor_has_bf16(),
        fp16=False,
        tf32=False,
        compiles=_has_c_compiler(),
    )


def _has_c_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang"))


def _host_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _processor_has_bf16() -> bool:
    """Whether matrices are multiplied in bf16 by the processor's own tiles (AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
