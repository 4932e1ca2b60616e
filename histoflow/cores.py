"""How many processor cores work may be spread over."""

from __future__ import annotations

import os


def cores() -> int:
    """Processor cores that this process may use.

    A container or a batch system may leave it only some, and OMP_NUM_THREADS says what its user wants.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(wanted)) if wanted.isdecimal() and int(wanted) else there
