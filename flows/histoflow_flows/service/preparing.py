"""What a server needs before a worker can run anything on it: the work pool and the concurrency limit.

Talks to the server of the process's own settings; import it only when the environment is complete.
"""

from __future__ import annotations

from datetime import datetime

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import Worker
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from histoflow.errors import UserError
from histoflow_flows.service.settings import POOL


def ensure_pool(own_worker: bool) -> None:
    """The process work pool; one of that name that is there already stays as its owner made it.

    A worker of our own can only serve a pool of type process.
    """
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(POOL)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
            return
    if own_worker and pool.type != "process":
        raise UserError(
            f"The work pool '{POOL}' must be of type process for the worker of 'histoflow up'. Got "
            f"{pool.type}. Start with --no-worker, and that pool's own workers."
        )


def ensure_limit(slots: int) -> None:
    """The concurrency limit, active, with so many slots."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(POOL)
        except ObjectNotFound:
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=POOL, limit=slots))
        else:
            client.update_global_concurrency_limit(
                POOL, GlobalConcurrencyLimitUpdate(limit=slots, active=True)
            )


def workers() -> list[Worker]:
    with get_client(sync_client=True) as client:
        return client.read_workers_for_work_pool(POOL)


def has_reported(name: str, since: datetime) -> bool:
    """Whether the worker of this name has told the server that it lives."""
    beats = [worker.last_heartbeat_time for worker in workers() if worker.name == name]
    return any(beat is not None and beat >= since for beat in beats)
