"""Where the trials of a study run: threads of this process, or the processes of a Dask or Ray cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from histoflow.errors import UserError
from histoflow.tuning.settings import Search

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner


@contextmanager
def crew_of(search: Search) -> Iterator[TaskRunner[Any]]:
    """The task runner that the search asks for, at work; its cluster ends with it."""
    runner = {"threads": _threads, "dask": _dask, "ray": _ray}[search.runner](search)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with runner:
        if threading.current_thread() is threading.main_thread():  # Ray takes SIGTERM for itself
            for number, handler in handlers.items():
                signal.signal(number, handler)
        yield runner


def _threads(search: Search) -> TaskRunner[Any]:
    from prefect.task_runners import ThreadPoolTaskRunner

    return ThreadPoolTaskRunner(max_workers=search.parallel)


def _dask(search: Search) -> TaskRunner[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise _missing("dask") from error
    if search.address:
        return DaskTaskRunner(address=search.address)
    # One thread to a process: torch's chance belongs to the process, and so trials do not share it.
    local = {
        "n_workers": search.parallel,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
        "memory_limit": 0,
    }
    return DaskTaskRunner(cluster_kwargs=local)


def _ray(search: Search) -> TaskRunner[Any]:
    try:
        import ray  # noqa: F401  # prefect-ray itself imports without it
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise _missing("ray") from error
    if search.address:
        return cast("TaskRunner[Any]", RayTaskRunner(address=search.address))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers what runs here
    local = {
        "num_cpus": search.parallel,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    return cast("TaskRunner[Any]", RayTaskRunner(init_kwargs=local))


def _missing(name: str) -> UserError:
    return UserError(
        f"The runner '{name}' needs packages that are not installed here. "
        f"Install them: pip install 'histoflow[{name}]', or use the runner threads."
    )
