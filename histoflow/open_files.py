"""How many files this process may have open: each shard that is read by memory map counts as one."""

from __future__ import annotations

_ENOUGH = 65536


def allow_many() -> None:
    """As many as the system lets a process have without asking; shells begin with fewer."""
    try:
        import resource
    except ImportError:  # not on this system, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
