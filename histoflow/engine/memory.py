"""How the C library hands out memory: big blocks are kept for the next step, not given back and fetched anew.

Each step of training on a CPU takes the same few dozen blocks of many megabytes. glibc gets such blocks from
the kernel one by one and returns them at once, and the kernel then fills every page with zeros again.
Threads other than the main one hand out memory from arenas of their own, in which big blocks have no room;
so there is to be one arena for all, which can be said only before there is another thread.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_OLD_LARGEST = 2**25  # older versions refuse a larger threshold


@cache
def keep_big_blocks() -> bool:
    """Tell glibc so, for as long as the process lives; False where there is another C library.

    Best called when the process starts. Where threads are there already, MALLOC_ARENA_MAX=1 in the
    environment does what comes too late here.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    library.mallopt(_M_ARENA_MAX, 1)
    kept = library.mallopt(_M_MMAP_THRESHOLD, 2**30) or library.mallopt(_M_MMAP_THRESHOLD, _OLD_LARGEST)
    return bool(kept and library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
