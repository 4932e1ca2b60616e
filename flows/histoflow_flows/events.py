"""Events of histoflow's on the Prefect server, which automations can wait for.

    histoflow.dataset.changed     of histoflow.dataset.NAME: fetching found other files than were told of last
    histoflow.model.promoted      of histoflow.model.NAME: what became of a challenger
    histoflow.model.held
    histoflow.model.rejected

Outside a flow run there may be no server, and nothing is sent.
"""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from histoflow.models import Change, Version
from histoflow.stages import RawData

_DONE = {"promote": "promoted", "rollback": "promoted", "hold": "held", "reject": "rejected"}


def dataset_changed(name: str, raw: RawData, changes: str) -> bool:
    """Whether a server knows now that others wait on; one that a command starts for itself ends with it."""
    told = {"changes": changes, "digest": raw.digest, "files": raw.files}
    sent = _emit("histoflow.dataset.changed", f"histoflow.dataset.{name}", name, told)
    return sent and bool(PREFECT_API_URL.value())


def model_decided(version: Version, change: Change) -> None:
    """Tell what has become of a challenger; told twice, it is the same event."""
    told = {"version": version.number, "run": version.record.run, "why": change.why}
    resource = f"histoflow.model.{version.name}"
    _emit(f"histoflow.model.{_DONE[change.what]}", resource, version.reference, told, id_of(change))


def id_of(change: Change) -> UUID:
    """The same each time, and no other change's."""
    return uuid5(NAMESPACE_URL, f"{change.line.as_uri()}#{change.number}-{change.time}")


def _emit(
    event: str, resource: str, name: str, payload: dict[str, Any], event_id: UUID | None = None
) -> bool:
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return False
    of = {"prefect.resource.id": resource, "prefect.resource.name": name}
    return emit_event(event, of, payload=payload, id=event_id) is not None
