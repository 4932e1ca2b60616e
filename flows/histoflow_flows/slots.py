"""The slots of the GPUs: how many trainings may run at once, as a limit that the Prefect server keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound

from histoflow import progress

LIMIT = "gpu"
"""The name of the global concurrency limit."""
LEASE = 60.0
"""Seconds after which the slot of a process that was killed comes back."""
OUTAGE = 300.0
"""Seconds that the server may be away when a slot is asked for."""
ASK_EVERY = 5.0

Answer = TypeVar("Answer")

log = logging.getLogger("histoflow")


@contextmanager
def gpu_slot(devices: int = 1) -> Iterator[None]:
    """Hold a slot for each device inside, or all there are.

    Where the server knows no such limit, or no flow runs, nothing is limited.
    """
    if FlowRunContext.get() is None or not (there := _patiently(_slots)):
        yield
        return
    slot, wanted = ExitStack(), min(devices, there)
    progress.say("Asking for a GPU slot" if wanted == 1 else f"Asking for {wanted} GPU slots")
    _patiently(lambda: slot.enter_context(concurrency(LIMIT, wanted, lease_duration=LEASE)))
    try:
        yield
    finally:
        try:
            slot.close()
        except httpx.HTTPError as error:
            # What was done inside is done; it must not be lost because the server is away.
            log.warning("The GPU slot could not be given back (%s); it is free in %g s.", error, LEASE)


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """The server's answer, also where it is away for a while: a new client of Prefect's gives up at once."""
    deadline = time.monotonic() + OUTAGE
    while True:
        try:
            return ask()
        except (httpx.HTTPError, ConcurrencySlotAcquisitionError) as error:
            if time.monotonic() > deadline:
                raise
            log.warning("The server does not answer (%s); asking again in %g s.", error, ASK_EVERY)
            time.sleep(ASK_EVERY)


def _slots() -> int:
    """How many there are; 0 where nothing is limited."""
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            return 0
    return limit.limit if limit.active else 0
