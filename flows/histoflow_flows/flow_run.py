"""Which flow run this process works on: its claim, and the run folder that belongs to it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from histoflow import files, home
from histoflow.claims import Claim, ClaimedError
from histoflow.errors import RunError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_OLD = 7 * 24 * 3600.0
"""Seconds: what the reaper had to learn from a claim, it has learned by then."""
_REMEMBERED = ".found"

_held: dict[UUID, Claim] = {}


def claim_of(flow_run_id: UUID) -> Claim:
    """Held by the process that works on this flow run, from its first moment until the process has ended."""
    return Claim(home.flow_runs() / str(flow_run_id))


def claim() -> None:
    """Claim the flow run that is under way.

    The claim outlasts the flow itself: when it is gone, the last word on the run's state has been said.
    """
    flow_run = _current()
    if flow_run is not None:
        _take(flow_run.id)


def claim_early() -> None:
    """Claim the flow run for which a worker started this process, before the server hears that it is running.

    Where another process has it already, this one ends without a word: that one will tell how it ended.
    """
    main = getattr(sys.modules["__main__"], "__spec__", None)
    started_for = os.environ.get("PREFECT__FLOW_RUN_ID")
    if main is None or main.name != "prefect.engine" or started_for is None:
        return  # run by hand, or a process that a flow run started
    try:
        _take(UUID(started_for))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(0)  # anything else would have Prefect tell the server that the flow run crashed


def _take(flow_run_id: UUID) -> None:
    if flow_run_id in _held:
        return
    mine = claim_of(flow_run_id)
    try:
        mine.take()
    except ClaimedError as error:
        raise RunError(
            f"Flow run {flow_run_id} is being worked on by another process ({error.holder}). "
            f"Wait for it to end, or stop it."
        ) from None
    _held[flow_run_id] = mine
    _forget_old()


def _forget_old() -> None:
    """Clear away claims of long ago.

    A process cannot do so for itself when it ends: whether the server has heard of the end, it may not know.
    """
    for beat in home.flow_runs().glob("*.beat"):
        claim = Claim(beat.with_suffix(""))
        if time.time() - beat.stat().st_mtime > _OLD and claim.holder() is None:
            claim.forget()
            beat.with_suffix(_REMEMBERED).unlink(missing_ok=True)


def remembered(find: Callable[[], str]) -> str:
    """What this flow run found at its first beginning, also when it begins anew."""
    flow_run = _current()
    if flow_run is None:
        return find()
    path = home.flow_runs() / f"{flow_run.id}{_REMEMBERED}"
    if not path.is_file():
        files.write_text(path, find())
    return path.read_text(encoding="utf-8")


def run_id(name: str) -> str | None:
    """The same id each time that this flow run begins anew, so that it goes on where it was."""
    flow_run = _current()
    if flow_run is None or flow_run.created is None:
        return None
    return f"{flow_run.created:%Y%m%d-%H%M%S}-{name}-{flow_run.id.hex[-6:]}"


def _current() -> FlowRun | None:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    return context.flow_run if context else None
