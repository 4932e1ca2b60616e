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
        raise DeviceError(
            f"The device must be one that is here: torch sees {torch.cuda.device_count()} CUDA devices. "
            f"Got '{name}'. Use auto or cpu."
        )
    return device
