"""Events of histoflow's on the Prefect server, which automations can wait for.

    histoflow.dataset.changed     of histoflow.dataset.NAME: fetching found other files than the last time
    histoflow.model.promoted      of histoflow.model.NAME: what became of a challenger
    histoflow.model.held
    histoflow.model.rejected

Outside a flow run there may be no server, and nothing is sent.
"""

from __future__ import annotations

from typing import Any

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event

from histoflow.models import Version
from histoflow.stages import RawData

_STAGES = {"champion": "promoted", "held": "held", "rejected": "rejected"}


def dataset_changed(name: str, raw: RawData) -> None:
    told = {"changes": raw.changes, "digest": raw.digest, "files": raw.files}
    _emit("histoflow.dataset.changed", f"histoflow.dataset.{name}", name, told)


def model_decided(version: Version, why: str) -> None:
    """Tell what has become of a challenger."""
    found = _STAGES.get(version.stage)
    if found is not None:
        told = {"version": version.number, "run": version.record.run, "why": why}
        _emit(f"histoflow.model.{found}", f"histoflow.model.{version.name}", version.reference, told)


def _emit(event: str, resource: str, name: str, payload: dict[str, Any]) -> None:
    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    emit_event(event, {"prefect.resource.id": resource, "prefect.resource.name": name}, payload=payload)
