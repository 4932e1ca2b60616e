"""tune-flow: searches the settings that serve best, and trains them on all data."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from histoflow import stages, stopping
from histoflow.report.tuning_page import write_tuning_page
from histoflow.tuning import study as studies
from histoflow.tuning.results import results_of
from histoflow.tuning.settings import Search, Tuning
from histoflow.tuning.study import Study
from histoflow.tuning.tuner import Tuner, tuning_of
from histoflow_flows import flow_run, tasks
from histoflow_flows.crews import crew_of
from histoflow_flows.forms import DEMO, ExperimentForm
from histoflow_flows.train import train_flow
from histoflow_flows.trials import run_trials
from histoflow_flows.tuning_evidence import of_search

flow_run.claim_early()

USUAL = Search(fidelity={"training.share": 0.5, "training.epochs": 5}, pruner="median")
"""What a deployment searches when it is told nothing: what the components mark as worth tuning."""


@flow(name="tune-flow", flow_run_name="tune {experiment.name}")
def tune_flow(experiment: ExperimentForm = DEMO, search: Search = USUAL, study: str | None = None) -> Path:
    """Search, retrain the best on all data, evaluate it, report; returns the study's folder.

    With the ``study`` that was interrupted, goes on where that one stood; without one, a flow run that
    begins anew goes on where it stood itself.
    """
    flow_run.claim()
    begun = begin(experiment, search, study or flow_run.run_id(experiment.name))
    with begun.lock():
        packed = tasks.preprocess(experiment, tasks.fetch(experiment))
        begun.hold_data(packed.folder, packed.fingerprint)
        with tuning_of(begun) as tuner:
            _search(tuner, packed)
            best, run_id = tuner.write_best(), tuner.best_run_id()
        report(begun)
        if search.retrain:
            train_flow(best, run_id)
            report(begun)
    return begun.folder


def _search(tuner: Tuner, packed: stages.Packed) -> None:
    """What ends the search before its time asks trials in threads to end, before the crew is waited for."""
    tuner.prepare()
    with of_search(tuner) as told, crew_of(tuner.tuning.search) as crew, stopping.announced():
        run_trials(tuner, packed, crew, told)


@task(task_run_name="begin study of {experiment.name}", cache_policy=NO_CACHE)
def begin(experiment: ExperimentForm, search: Search, study: str | None) -> Study:
    return studies.begin(Tuning(experiment, search), study)


@task(task_run_name="report {study.id}", cache_policy=NO_CACHE)
def report(study: Study) -> Path:
    return write_tuning_page(results_of(study))
