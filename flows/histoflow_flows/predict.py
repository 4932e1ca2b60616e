"""predict-flow: predicts images with the best model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import flow

from histoflow import home, runs
from histoflow.runs import Run
from histoflow_flows import evidence, flow_run, tasks
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()


@flow(name="predict-flow", flow_run_name="predict with {run}")
def predict_flow(
    run: str,
    images: list[str] | None = None,
    split: Literal["train", "val"] | None = None,
    out: str | None = None,
    tta: Literal["none", "flips", "dihedral"] = "none",
    device: str | None = None,
) -> Path:
    """Predict image files, folders of them or a packed split with the run of this id or folder.

    Returns the Parquet file: ``out``, or ``predictions.parquet`` in the run's folder. One that is there is
    replaced, for a flow run that begins anew writes it a second time.
    """
    flow_run.claim()
    found = Run(Path(flow_run.remembered(lambda: str(runs.find(home.runs(), run).folder))))
    table = Path(out) if out else found.folder / "predictions.parquet"
    with evidence.of_work(), gpu_slot():
        return tasks.predict(found, [Path(image) for image in images or ()], split, table, tta, device).table
