"""The slots of the GPUs: how many trainings may run at once, as a limit that the Prefect server keeps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound

from histoflow import progress

LIMIT = "gpu"
"""The name of the global concurrency limit."""
LEASE = 60.0
"""Seconds after which the slot of a process that was killed comes back."""

log = logging.getLogger("histoflow")


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot inside. Where the server knows no such limit, or no flow runs, nothing is limited."""
    if FlowRunContext.get() is None or not _is_limited():
        yield
        return
    slot = ExitStack()
    progress.say("Asking for a GPU slot")
    slot.enter_context(concurrency(LIMIT, lease_duration=LEASE))
    try:
        yield
    finally:
        try:
            slot.close()
        except httpx.HTTPError as error:
            # What was done inside is done; it must not be lost because the server is away.
            log.warning("The GPU slot could not be given back (%s); it is free in %g s.", error, LEASE)


def _is_limited() -> bool:
    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(LIMIT).active
        except ObjectNotFound:
            return False
