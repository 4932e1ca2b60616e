"""retrain-flow: trains a challenger, and makes it champion only where it is shown to be good enough."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.states import Completed
from pydantic import Field

from histoflow import home, progress, runs, stages
from histoflow.experiment import Experiment
from histoflow.models import Version
from histoflow.retraining import deciding, judging, verdict_record
from histoflow.retraining.asked import Asked
from histoflow.retraining.gate import Gate
from histoflow.retraining.verdict_record import Judged
from histoflow.runs import Run
from histoflow_flows import evidence, flow_run, holds, tasks
from histoflow_flows.forms import DEMO, ExperimentForm
from histoflow_flows.retrain_evidence import show_record
from histoflow_flows.slots import gpu_slot

flow_run.claim_early()

BY = "the gate of retrain-flow"
_OUTCOMES = {"champion": "Promoted", "held": "Held", "rejected": "Rejected"}


class Answer(RunInput):
    """Shall this model take the champion's place?"""

    decision: Literal["promote", "reject"] = Field(description="What becomes of the model.")
    reason: str = Field(min_length=1, description="Why; kept in the change record.")
    name: str = Field(min_length=1, description="Your name; kept in the change record.")


@flow(name="retrain-flow", flow_run_name="retrain {experiment.name}")
def retrain_flow(
    experiment: ExperimentForm = DEMO,
    name: str | None = None,
    gate: Gate = Gate(),  # noqa: B008 - frozen
    warm_start: bool = False,
    force: bool = False,
    hold_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = holds.HOURS,
    run_id: str | None = None,
) -> State[Any]:
    """Train a challenger if there is anything new, and let the gate decide whether it becomes champion.

    ``name`` is the model, by default that of the experiment. ``warm_start`` begins with the champion's
    weights, ``force`` trains although nothing is new. A challenger that waits for a person is rejected after
    ``hold_hours``. A flow run that begins anew goes on where it stood.
    """
    flow_run.claim()
    name = name or experiment.name
    judging.refuse_early(name, experiment, gate)
    run = Run(home.runs() / (run_id or flow_run.run_id(experiment.name) or runs.new_id(experiment.name)))
    judged = verdict_record.read(run.folder)
    if judged is None:
        raw = _with_changes(tasks.fetch(experiment))
        if not (force or run.folder.exists()) and (told := judging.nothing_new(name, experiment, raw)):
            progress.say(told)
            return Completed(name="NothingNew", message=told)
        judged = _challenge(tasks.start(experiment, run.id), experiment, raw, name, gate, warm_start)
    return _decided(run, judged, hold_hours)


def _with_changes(raw: stages.RawData) -> stages.RawData:
    """A flow run that begins anew finds no changes, as it has seen them."""
    return raw.model_copy(update={"changes": flow_run.remembered(lambda: raw.changes)})


def _challenge(
    run: Run, experiment: Experiment, raw: stages.RawData, name: str, gate: Gate, warm_start: bool
) -> Judged:
    """Train and evaluate, then the champion on the same test images."""
    with run.lock(), evidence.of_work():
        Asked(name=name, gate=gate, warm_start=warm_start).keep(run.folder)
        packed = tasks.preprocess(experiment, raw)
        stages.hold_data(run, packed)
        if warm_start:
            tasks.warm_start(run, name, packed, raw)
        with gpu_slot(experiment.compute.devices):
            tasks.train(experiment, packed, run)
            tasks.evaluate(run, reason="end of training", again=False)
            return tasks.judge(run, name, gate, raw)


def _decided(run: Run, judged: Judged, hold_hours: float) -> State[Any]:
    if not deciding.written(run):  # one that was killed before it had decided may lack a report
        with run.lock():
            tasks.report(run)
    version = tasks.carry_out(run, judged, BY)
    show_record(run)
    if version.stage == "held" and _can_wait():
        answer = _ask(run, judged, hold_hours)
        version = tasks.settle(run, judged, answer.decision, answer.reason, answer.name)
        show_record(run)
    return _told(version)


def _can_wait() -> bool:
    """Only a flow run of a deployment can be set going again."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def _ask(run: Run, judged: Judged, hold_hours: float) -> Answer:
    """End this process until a person has answered; then the flow begins anew, and comes here again."""
    progress.say(f"Waiting for a person to decide, for {hold_hours:g} h at most. {judged.verdict.why}")
    form = Answer.with_initial_data(description=deciding.written(run))
    return suspend_flow_run(wait_for_input=form, key="gate")


def _told(version: Version) -> State[Any]:
    """With the reason of the last change, also where that was made elsewhere in the meantime."""
    stage = version.stage
    told = f"{version.reference} is {stage}. {deciding.last_change(version).why}"
    if stage == "held":
        told += f" Decide with: histoflow promote {version.reference}"
    progress.say(told)
    return Completed(name=_OUTCOMES.get(stage, stage.capitalize()), message=told)
