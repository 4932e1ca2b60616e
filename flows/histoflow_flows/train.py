"""train-flow: from an experiment to an evaluated model and its report, or to one for each fold."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from histoflow import crossvalidation, home, progress, stages
from histoflow.crossvalidation import CrossValidation
from histoflow.experiment import Experiment
from histoflow.runs import Run
from histoflow_flows import evidence, flow_run, tasks
from histoflow_flows.folds_evidence import of_folds
from histoflow_flows.forms import DEMO, ExperimentForm
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()


@flow(name="train-flow", flow_run_name="train {experiment.name}")
def train_flow(experiment: ExperimentForm = DEMO, run_id: str | None = None, profile: bool = False) -> Path:
    """Fetch, preprocess, train, evaluate, report; returns the run's folder.

    With the ``run_id`` of a run that was interrupted, goes on where that one stood; without one, a flow run
    that begins anew goes on where it stood itself. With ``profile``, the run's folder ``profile`` tells
    where the time of the first epoch went. An experiment with ``training.folds`` is trained once for each
    fold, in a flow run of its own; then the folder returned is the cross-validation's.
    """
    flow_run.claim()
    run_id = run_id or flow_run.run_id(experiment.name)
    if crossvalidation.is_wanted(experiment):
        return _cross_validate(experiment, run_id, profile)
    run = tasks.start(experiment, run_id)
    with run.lock(), evidence.of_work():
        raw = tasks.fetch(experiment)
        _train(experiment, tasks.preprocess(experiment, raw), run, profile)
    return run.folder


def _train(experiment: Experiment, packed: stages.Packed, run: Run, profile: bool) -> None:
    stages.hold_data(run, packed)
    with gpu_slot(experiment.compute.devices):
        tasks.train(experiment, packed, run, profile)
        tasks.evaluate(run, reason="end of training", again=False)
    tasks.report(run)


def _cross_validate(experiment: Experiment, run_id: str | None, profile: bool) -> Path:
    begun = tasks.begin_folds(experiment, run_id)
    with begun.lock():
        packed = tasks.preprocess(experiment, tasks.fetch(experiment))
        begun.hold_data(packed.folder, packed.fingerprint)
        with of_folds(begun) as told:
            # Also those that are done: Prefect tells the flow runs inside another one apart by their order.
            for fold in begun.folds():
                fold_flow(begun.id, fold.number, packed, profile)
                told()
        tasks.conclude_folds(begun)
    return begun.folder


@flow(name="fold-flow", flow_run_name="fold {number} of {cross_validation}")
def fold_flow(cross_validation: str, number: int, packed: stages.Packed, profile: bool = False) -> Path:
    """Train, evaluate and report one fold, unless that is done; returns the folder of its run."""
    flow_run.claim()
    begun = CrossValidation(home.cross_validations() / cross_validation)
    fold = begun.fold(number)
    if fold.is_done:
        progress.say(f"{fold.title} is done already")
        return fold.run.folder
    progress.say(fold.title)
    run = tasks.start(fold.experiment, fold.run.id)
    with run.lock(), evidence.of_work():
        _train(fold.experiment, tasks.cut(fold.experiment, packed), run, profile)
    crossvalidation.keep(begun, fold)
    return run.folder
