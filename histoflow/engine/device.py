"""Which device to work on."""

from __future__ import annotations

import torch

from histoflow.errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(_absent(name, f"torch sees {torch.cuda.device_count()} CUDA devices"))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(_absent(name, "torch sees no Apple GPU"))
    return device


def _absent(name: str, seen: str) -> str:
    return (
        f"The device must be one that is here: {seen}. Got '{name}'. "
        f"Use training.device=auto or training.device=cpu."
    )
