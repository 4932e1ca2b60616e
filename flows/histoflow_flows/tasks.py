"""Prefect tasks: each a stage of histoflow with a name that a person can read, and no logic of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from histoflow import crossvalidation, stages
from histoflow.crossvalidation import CrossValidation
from histoflow.errors import HistoflowError
from histoflow.experiment import Experiment
from histoflow.models import Version
from histoflow.retraining import deciding, judging, starting
from histoflow.retraining.gate import Gate
from histoflow.retraining.verdict_record import Judged
from histoflow.runs import Run
from histoflow_flows import events, evidence


def may_pass_with_time(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again could help; what histoflow refuses on purpose, it would refuse again."""
    return not isinstance(state.data if isinstance(state.data, Exception) else None, HistoflowError)


@task(task_run_name="start {experiment.name}", cache_policy=NO_CACHE)
def start(experiment: Experiment, run_id: str | None) -> Run:
    return stages.start(experiment, run_id)


@task(
    task_run_name="fetch {experiment.dataset.name}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass_with_time,
)
def fetch(experiment: Experiment) -> stages.RawData:
    with evidence.of_work():
        raw = stages.fetch(experiment)
    changes = stages.untold(experiment, raw)
    if changes and events.dataset_changed(experiment.dataset.name, raw, changes):
        stages.mark_told(experiment, raw)
    return raw


@task(task_run_name="preprocess {experiment.dataset.name}", cache_policy=NO_CACHE)
def preprocess(experiment: Experiment, raw: stages.RawData) -> stages.Packed:
    with evidence.of_work():
        return stages.preprocess(experiment, raw)


@task(
    task_run_name="cut fold {experiment.training.fold} of {experiment.training.folds}", cache_policy=NO_CACHE
)
def cut(experiment: Experiment, packed: stages.Packed) -> stages.Packed:
    with evidence.of_work():
        return stages.cut(experiment, packed)


@task(
    task_run_name="train {experiment.architecture.name} on {experiment.dataset.name}", cache_policy=NO_CACHE
)
def train(experiment: Experiment, packed: stages.Packed, run: Run, profile: bool = False) -> stages.Trained:
    epochs = stages.training(experiment, packed, run, profile=profile)
    with evidence.of_training(experiment, run) as shown, closing(epochs):
        for _ in epochs:
            shown.epoch()
    return stages.trained(run)


@task(task_run_name="evaluate {run.id}", cache_policy=NO_CACHE)
def evaluate(run: Run, reason: str, again: bool, device: str | None = None) -> stages.Evaluated:
    with evidence.of_work():
        return stages.evaluate(run, reason, again, device)


@task(task_run_name="predict with {run.id}", cache_policy=NO_CACHE)
def predict(
    run: Run,
    images: Sequence[Path],
    split: Any,
    out: Path,
    tta: Any,
    device: str | None = None,
    raw: bool = False,
) -> stages.Predicted:
    with evidence.of_work():
        chosen: Any = {"split": split, "tta": tta, "device": device, "raw": raw}
        return stages.predict(run, images, out=out, overwrite=True, **chosen)


@task(task_run_name="begin folds of {experiment.name}", cache_policy=NO_CACHE)
def begin_folds(experiment: Experiment, run_id: str | None) -> CrossValidation:
    return crossvalidation.begin(experiment, run_id)


@task(task_run_name="conclude {begun.id}", cache_policy=NO_CACHE)
def conclude_folds(begun: CrossValidation) -> Path:
    crossvalidation.conclude(begun)
    return begun.folder


@task(task_run_name="begin with the champion of {name}", cache_policy=NO_CACHE)
def warm_start(run: Run, name: str, packed: stages.Packed, raw: stages.RawData) -> None:
    with evidence.of_work():
        starting.warm_start(run, name, packed, raw)


@task(task_run_name="judge {run.id}", cache_policy=NO_CACHE)
def judge(run: Run, name: str, gate: Gate, raw: stages.RawData) -> Judged:
    with evidence.of_work():
        return judging.judge(run, name, gate, raw)


@task(task_run_name="carry out: {judged.verdict.decision}", cache_policy=NO_CACHE)
def carry_out(run: Run, judged: Judged, by: str) -> Version:
    return _told(deciding.carry_out(run, judged, by), judged)


@task(task_run_name="{decision} {judged.name}", cache_policy=NO_CACHE)
def settle(run: Run, judged: Judged, decision: Literal["promote", "reject"], why: str, by: str) -> Version:
    return _told(deciding.settle(run, judged, decision, why, by), judged)


def _told(decided: deciding.Decided, judged: Judged) -> Version:
    """A flow run that begins anew tells it once more, for it may have been killed before it could."""
    if decided.changed or judged.same_as is None:
        events.model_decided(decided.version, deciding.last_change(decided.version))
    return decided.version


@task(task_run_name="report {run.id}", cache_policy=NO_CACHE)
def report(run: Run) -> list[Path]:
    with evidence.of_report(run) as pages:
        pages += stages.report(run)
    return pages
