"""retrain-flow on a real server: what is promoted, what is not, and what waits for a person."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import State
from prefect.exceptions import ParameterTypeError, Pause
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from conftest import Dawdling, Typed
from histoflow import files, models, stages
from histoflow.experiment import Audit, Experiment, parse
from histoflow.runs import Run
from histoflow_flows import holds, tasks
from histoflow_flows.retrain import retrain_flow
from support import small_experiment

QUICK: dict[str, Any] = {
    "name": "line",
    "evaluation": {"gallery": 0, "embedding": False},
    "metrics": ["accuracy"],
    "reports": [],
    "optimizer": {"name": "adamw", "lr": 0.01},
    "training": {"epochs": 1, "batch_size": 32},
}
GOOD = small_experiment(**QUICK)
UNSURE = small_experiment(**QUICK, seed=8)
"""Of three test slides nothing can be shown."""
ANSWER = {"decision": "promote", "reason": "It was looked at.", "name": "Ada"}


class Flows:
    """Flow runs of a deployment, worked on in this process."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self.client = client
        self.deployment = client.create_deployment(
            flow_id=client.create_flow(retrain_flow),
            name="retrain-test",
            entrypoint="histoflow_flows.retrain.retrain_flow",
            pull_steps=[],
        )

    def submit(self, experiment: Experiment, **parameters: Any) -> UUID:
        parameters = {"experiment": experiment.to_data(), **parameters}
        return self.client.create_flow_run_from_deployment(self.deployment, parameters=parameters).id

    def work_on(self, flow_run_id: UUID) -> State[Any]:
        run = self.client.read_flow_run(flow_run_id)
        with suppress(Pause):  # ends the process of a flow run that waits
            run_flow(retrain_flow, flow_run=run, parameters=run.parameters, return_type="state")
        return self.state(flow_run_id)

    def state(self, flow_run_id: UUID) -> State[Any]:
        state = self.client.read_flow_run(flow_run_id).state
        assert state is not None
        return state

    def begin_anew(self, flow_run_id: UUID) -> State[Any]:
        """As the reaper does it."""
        self.client.set_flow_run_state(flow_run_id, Scheduled(name="AwaitingRetry"), force=True)
        return self.work_on(flow_run_id)

    def run(self, experiment: Experiment, **parameters: Any) -> State[Any]:
        return self.work_on(self.submit(experiment, **parameters))

    def records(self, flow_run_id: UUID) -> list[str]:
        """The change records on a flow run's page."""
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]),
            key=ArtifactFilterKey(any_=["change-record"]),
        )
        return [str(found.data) for found in self.client.read_artifacts(artifact_filter=wanted)]

    def events(self, name: str, resource: str, count: int) -> list[dict[str, Any]]:
        """Once there are so many; they are sent from a thread."""
        wanted = {"filter": {"event": {"name": [name]}}}

        def found() -> Any:
            events = self.client.request("POST", "/events/filter", json=wanted).json()["events"]
            mine = [event for event in events if event["resource"]["prefect.resource.id"] == resource]
            return mine if len(mine) >= count else None

        return list(until(found))


@pytest.fixture
def flows(prefect_here: str) -> Iterator[Flows]:
    with get_client(sync_client=True) as client:
        yield Flows(client)


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (result := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return result


def story() -> list[tuple[str, int, str]]:
    """What happened to the model, in its order: what, to which version, by whom."""
    (line,) = models.listing()
    return [(change.what, change.version, change.by) for change in line.state.changes]


def runs_in(home: Path) -> list[Run]:
    return [Run(path.parent) for path in (home / "runs").glob("*/run.json")]


def test_the_first_is_promoted_then_nothing_is_new_and_what_is_held_waits_for_a_person(
    flows: Flows, home: Path
) -> None:
    gate = "the gate of retrain-flow"
    first = flows.submit(GOOD, name="told")
    assert flows.work_on(first).name == "Promoted"
    assert "There was no champion to compare with" in flows.records(first)[0]
    nothing = flows.run(GOOD, name="told")
    assert (nothing.name, nothing.type.value) == ("NothingNew", "COMPLETED")
    assert "told@1 (champion)" in str(nothing.message)
    assert len(runs_in(home)) == 1

    held = flows.submit(small_experiment(**QUICK | {"reports": ["html"]}, seed=8), name="told")
    assert flows.work_on(held).name == "Suspended"
    assert models.champion("told") == models.find("told@1")
    assert models.find("told@2").stage == "held"
    assert "no difference can be shown or ruled out" in flows.records(held)[0]
    challenger = next(run for run in runs_in(home) if run.id == models.find("told@2").record.run)
    page = (challenger.folder / "report.html").read_text(encoding="utf-8")
    assert "against the champion told@1:" in page.split('class="verdict"')[1]
    shown = flows.client.request("GET", f"/flow_runs/{held}/input/suspended-gate-description").json()
    assert "## Checks" in shown, "the person who decides sees the record"
    flows.client.resume_flow_run(held, run_input=ANSWER)
    assert flows.work_on(held).name == "Promoted"
    assert story() == [("promote", 1, gate), ("hold", 2, gate), ("promote", 2, "Ada")]
    assert "It was looked at." in flows.records(held)[0]

    assert "It was looked at." in str(flows.begin_anew(held).message)
    assert len(story()) == 3, "what is done is not done again"
    assert len(challenger.openings()) == 2, "once for each of the two models"
    promoted = flows.events("histoflow.model.promoted", "histoflow.model.told", 2)
    assert sorted(event["payload"]["version"] for event in promoted) == [1, 2]
    assert len(flows.events("histoflow.model.held", "histoflow.model.told", 1)) == 1


def test_one_that_nobody_decides_about_is_rejected_in_time_and_an_answer_must_be_whole(
    flows: Flows, home: Path
) -> None:
    flows.run(GOOD)
    held = flows.submit(UNSURE, hold_hours=0.001)
    flows.work_on(held)
    refused = flows.client.resume_flow_run(held, run_input={"decision": "perhaps", "reason": "", "name": ""})
    assert refused.status.value == "REJECT"
    patient = flows.submit(small_experiment(**QUICK, seed=9))
    flows.work_on(patient)
    time.sleep(3.6)
    (told,) = holds.end_overdue(flows.client)
    assert "nobody decided within 0.001 h" in told
    assert flows.work_on(held).name == "Rejected"
    assert [models.find(f"line@{number}").stage for number in (1, 2, 3)] == ["champion", "rejected", "held"]
    assert story()[-1] == ("reject", 2, "histoflow")


def test_one_killed_in_the_middle_goes_on_and_is_promoted_once(
    flows: Flows, home: Path, cli_environment: dict[str, str], dawdling: Dawdling
) -> None:
    experiment = small_experiment(**QUICK | {"training": {"epochs": 8, "batch_size": 32}})
    flow_run_id = flows.submit(experiment)
    with (home / "flow-run.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect.engine", str(flow_run_id)],
            env=cli_environment | dawdling(0.2) | {"PREFECT__FLOW_RUN_ID": str(flow_run_id)},
            stdout=log,
            stderr=log,
        )
    until(lambda: any(len(run.history()) > 2 for run in runs_in(home)) or process.poll() is not None)
    assert process.poll() is None, (home / "flow-run.log").read_text()
    process.kill()
    process.wait()
    assert not models.listing()
    assert flows.begin_anew(flow_run_id).name == "Promoted"
    (run,) = runs_in(home)
    assert len(run.read().sessions) == 2
    assert [(what, version) for what, version, _ in story()] == [("promote", 1)]
    assert len(run.openings()) == 1


def test_a_data_set_that_has_changed_is_told_of_once_whoever_saw_it_first(
    flows: Flows, tmp_path: Path
) -> None:
    patches = [tmp_path / "patches" / name for name in ("normal", "tumour")]
    for value, folder in enumerate(patches):
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (value, 0, 0)).save(folder / "patch.png")
    experiment = parse({"dataset": {"name": "image_folder", "path": str(tmp_path / "patches")}})

    @flow
    def look() -> None:
        tasks.fetch(experiment)

    look()
    (patches[0] / "patch.png").rename(patches[0] / "renamed.png")
    assert "under another name" in stages.fetch(experiment).changes, "as 'histoflow fetch' does"
    look()
    look()
    (event,) = flows.events("histoflow.dataset.changed", "histoflow.dataset.image_folder", 1)
    assert "under another name" in event["payload"]["changes"]


def test_outside_a_flow_run_nothing_is_sent(tmp_path: Path) -> None:
    from histoflow.stages import RawData
    from histoflow_flows import events

    raw = RawData(listing=tmp_path, files=1, digest="d")
    begin = time.monotonic()
    assert not events.dataset_changed("here", raw, "all")
    assert time.monotonic() - begin < 1, "no server is started for it"


def test_a_decision_that_is_told_twice_is_one_event(tmp_path: Path) -> None:
    from histoflow_flows import events

    told: dict[str, Any] = {
        "number": 1,
        "what": "hold",
        "version": 2,
        "former": "candidate",
        "replaced": None,
    }
    change = models.Change(line=tmp_path / "line", time="2026-11-21T12:00:00+00:00", why="", by="", **told)
    later, elsewhere = (
        change.model_copy(update=update) for update in ({"number": 2}, {"line": tmp_path / "other"})
    )
    assert events.id_of(change) == events.id_of(change.model_copy())
    assert len({events.id_of(one) for one in (change, later, elsewhere)}) == 3


@pytest.mark.parametrize("hours", [float("inf"), float("nan"), 0.0])
def test_whoever_waits_waits_for_a_time(hours: float) -> None:
    with pytest.raises(ParameterTypeError, match="hold_hours"):
        retrain_flow.validate_parameters({"hold_hours": hours})


def test_the_command_line_holds_by_the_registry_and_says_how_to_decide(
    flows: Flows, typed: Typed, capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    flows.run(GOOD)
    files.write_text(tmp_path / "line.yaml", files.yaml_of(UNSURE.to_data()))
    assert typed("retrain", str(tmp_path / "line.yaml"), "--gate", "margin=0.02") == 0
    shown = capsys.readouterr().out
    assert "line@2 is held" in shown
    assert "histoflow promote line@2" in shown
    assert "no difference can be shown or ruled out" in shown
    assert story()[-1] == ("hold", 2, "the gate of retrain-flow")

    refused = flows.run(UNSURE.model_copy(update={"audit": Audit(classes="refuse")}), force=True)
    assert (refused.is_failed(), len(story())) == (True, 2)
    assert "The audit refuses to train on these data" in str(refused.message)
    assert [run.read().state for run in runs_in(home) if not run.history()] == ["created"]


def test_wrong_words_are_refused_before_prefect_starts(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed("retrain", "demo", "--gate", "margn=0.02") == 2
    assert "gate.margn" in capsys.readouterr().err
    assert typed("retrain") == 2
    assert "--resume RUN" in capsys.readouterr().err
