"""train-flow: from an experiment to an evaluated model and its report."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from histoflow_flows import evidence, flow_run, tasks
from histoflow_flows.forms import DEMO, ExperimentForm
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()


@flow(name="train-flow", flow_run_name="train {experiment.name}")
def train_flow(experiment: ExperimentForm = DEMO, run_id: str | None = None, profile: bool = False) -> Path:
    """Fetch, preprocess, train, evaluate, report; returns the run's folder.

    With the ``run_id`` of a run that was interrupted, goes on where that one stood; without one, a flow run
    that begins anew goes on where it stood itself. With ``profile``, the run's folder ``profile`` tells
    where the time of the first epoch went.
    """
    flow_run.claim()
    run = tasks.start(experiment, run_id or flow_run.run_id(experiment.name))
    with run.lock(), evidence.of_work():
        raw = tasks.fetch(experiment)
        packed = tasks.preprocess(experiment, raw)
        with gpu_slot(experiment.compute.devices):
            tasks.train(experiment, packed, run, profile)
            tasks.evaluate(run, reason="end of training", again=False)
        tasks.report(run)
    return run.folder
