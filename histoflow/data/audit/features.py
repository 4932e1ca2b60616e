"""What is measured of each image while it is packed, for the audit to look at all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def describe(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Measurements of N×H×W×C images, by name; each array has N entries."""
    pixels = images.reshape(len(images), -1, images.shape[-1])
    return {
        "mean": pixels.mean(axis=1, dtype=np.float32),
        "std": pixels.std(axis=1, dtype=np.float32),
        "low": pixels.min(axis=(1, 2)),
        "high": pixels.max(axis=(1, 2)),
    }


def describe_file(path: Path) -> dict[str, float]:
    """What a file tells beside its pixels; NaN where it does not."""
    return {"bytes": float(path.stat().st_size)}
