"""train-flow: from an experiment to an evaluated model and its report."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from histoflow_flows import tasks
from histoflow_flows.forms import DEMO, ExperimentForm


@flow(name="train-flow", flow_run_name="train {experiment.name}")
def train_flow(experiment: ExperimentForm = DEMO, run_id: str | None = None) -> Path:
    """Fetch, preprocess, train, evaluate, report; returns the run's folder.

    With the ``run_id`` of a run that was interrupted, goes on where that one stood.
    """
    run = tasks.start(experiment, run_id)
    with run.lock():
        raw = tasks.fetch(experiment)
        packed = tasks.preprocess(experiment, raw)
        tasks.train(experiment, packed, run)
        tasks.evaluate(run, reason="end of training", again=False)
        tasks.report(run)
    return run.folder
