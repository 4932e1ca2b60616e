"""How many GPUs there are."""

from __future__ import annotations

import subprocess
import sys


def visible_gpus() -> int:
    """How many CUDA devices torch sees, asked in a process of its own: torch is large, and stays."""
    script = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    return int(done.stdout)
