"""predict-flow: predicts images with the best model of a run, or with a model that was registered."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import flow
from prefect.events import emit_event

from histoflow import drifting, references, runs
from histoflow.runs import Run
from histoflow.stages import Predicted
from histoflow_flows import evidence, flow_run, tasks
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()

DRIFT = "histoflow.drift"


@flow(name="predict-flow", flow_run_name="predict with {run}")
def predict_flow(
    run: str,
    images: list[str] | None = None,
    split: Literal["train", "val"] | None = None,
    out: str | None = None,
    tta: Literal["none", "flips", "dihedral"] = "none",
    device: str | None = None,
    raw: bool = False,
) -> Path:
    """Predict image files, folders or a list of them, or a packed split, with a run or a registered model.

    Returns the table: ``out``, or a file of this flow run's own in the run's folder ``predictions``; of a
    registered model in ``predictions/<version>`` of the model's. One that is there is replaced, for a flow
    run that begins anew writes it a second time. Where the images have drifted away from those of
    validation, the event ``histoflow.drift`` tells so.
    """
    flow_run.claim()
    # 'latest' and a model's champion stay the same when the flow run begins anew.
    found = references.of_folder(Path(flow_run.remembered(lambda: str(references.find(run).folder))))
    table = Path(out) if out else found.predictions / f"{_own_name()}.parquet"
    with evidence.of_work(), gpu_slot():
        done = tasks.predict(found, [Path(image) for image in images or ()], split, table, tta, device, raw)
    _tell_drift(found, done)
    return done.table


def _own_name() -> str:
    return flow_run.run_id("predictions") or runs.new_id("predictions")


def _tell_drift(run: Run, done: Predicted) -> None:
    if done.kept is None:
        return
    found = drifting.look_at(run, done.kept)
    if found.outside:
        emit_event(
            DRIFT,
            resource={"prefect.resource.id": f"histoflow.run.{run.id}", "prefect.resource.name": run.id},
            payload=found.to_json() | {"outside": [one.figure for one in found.outside]},
        )
