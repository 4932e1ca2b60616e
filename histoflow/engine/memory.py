"""How the C library hands out memory: big blocks are kept for the next step, not given back and fetched anew.

Each step of training on a CPU takes the same few dozen blocks of many megabytes. glibc gets such blocks from
the kernel one by one and returns them at once, and the kernel then fills every page with zeros again.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_OLD_LARGEST = 2**25  # older versions refuse a larger threshold


@cache
def keep_big_blocks() -> bool:
    """Tell glibc so, for as long as the process lives; False where there is another C library."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    kept = library.mallopt(_M_MMAP_THRESHOLD, 2**30) or library.mallopt(_M_MMAP_THRESHOLD, _OLD_LARGEST)
    return bool(kept and library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
