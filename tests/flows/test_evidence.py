"""What the page of a flow run shows, held against a real server, with the network cut in between."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact
from prefect.settings import PREFECT_API_URL, temporary_settings

from histoflow import progress, stages
from histoflow.markdown import plain
from histoflow_flows import tasks
from histoflow_flows.evidence import posting
from histoflow_flows.evidence.cards import Card, Owner
from histoflow_flows.evidence.listening import Piece, listening
from histoflow_flows.evidence.posting import Poster
from histoflow_flows.evidence.report import draw_results
from histoflow_flows.evidence.training import Training, table_rows
from histoflow_flows.evidence.wording import time_left
from proxy import Proxy
from support import small_experiment

LOG = logging.getLogger("evidence-under-test")


@flow
def some_flow() -> None: ...


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def owner(client: SyncPrefectClient) -> Owner:
    return Owner(client.create_flow_run(some_flow).id, None)


@pytest.fixture
def network(prefect_server: str, client: SyncPrefectClient) -> Iterator[Proxy]:
    """Between this process and the server, for all clients made from now on."""
    proxy = Proxy(urlsplit(prefect_server).port or 0)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{proxy.port}/api"}):
        yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "EVERY", 0.0)
    monkeypatch.setattr(posting, "_DRAWING_MAY_TAKE", 1.0)
    monkeypatch.setattr(posting, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(posting, "_TRY_AGAIN_AFTER", 0.1)


def text(data: str, key: str = "text") -> Callable[[], Card]:
    return lambda: Card(key, "markdown", data, "about it")


def shown(client: SyncPrefectClient, flow_run_id: UUID) -> dict[str, Artifact]:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    found = client.read_artifacts(artifact_filter=wanted)
    assert len({artifact.key for artifact in found}) == len(found), "one card of each kind"
    return {str(artifact.key): artifact for artifact in found}


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_card_is_updated_in_place_also_by_a_later_attempt(client: SyncPrefectClient, owner: Owner) -> None:
    with Poster(owner, LOG) as poster:
        poster.show("text", text("first"))
        wait_until(lambda: shown(client, owner.flow_run_id))
        poster.show("text", text("second"))
    first = shown(client, owner.flow_run_id)["text"]
    with Poster(owner, LOG) as poster:
        poster.show("text", text("third"))
    last = shown(client, owner.flow_run_id)["text"]
    assert (first.data, last.data) == ("second", "third")
    assert (last.id, last.description) == (first.id, "about it")


def test_a_card_that_somebody_deleted_is_made_anew(client: SyncPrefectClient, owner: Owner) -> None:
    with Poster(owner, LOG) as poster:
        poster.show("text", text("first"))
        wait_until(lambda: shown(client, owner.flow_run_id))
        client.delete_artifact(shown(client, owner.flow_run_id)["text"].id)
        poster.show("text", text("second"))
    assert shown(client, owner.flow_run_id)["text"].data == "second"


def test_of_many_states_only_the_newest_is_drawn(
    client: SyncPrefectClient, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "EVERY", 600.0)
    drawn: list[int] = []

    def state(number: int) -> Callable[[], Card]:
        return lambda: drawn.append(number) or Card("steps", "progress", float(number))

    with Poster(owner, LOG) as poster:
        poster.show("steps", state(0))
        wait_until(lambda: shown(client, owner.flow_run_id))
        for number in range(1, 50):
            poster.show("steps", state(number))
    assert drawn == [0, 49]
    assert shown(client, owner.flow_run_id)["steps"].data == 49


@pytest.mark.parametrize("cut", [Proxy.refuse, Proxy.swallow], ids=["refused", "no answer"])
def test_while_the_network_is_cut_work_goes_on_and_the_page_follows_later(
    cut: Callable[[Proxy], None],
    client: SyncPrefectClient,
    owner: Owner,
    network: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network comes back only after the work is done: had the work waited for it, it would wait for ever."""
    monkeypatch.setattr(posting, "_PATIENCE", 1.5)
    with Poster(owner, LOG) as poster:
        poster.show("text", text("before"))
        wait_until(lambda: shown(client, owner.flow_run_id))
        cut(network)
        poster.show("text", text("lost at first"))
        wait_until(lambda: warnings_in(caplog))
        for step in range(1000):
            poster.show("text", text(f"step {step}"))
            poster.show("later", text("new while cut", key="later"))
        network.restore()
        wait_until(lambda: len(shown(client, owner.flow_run_id)) == 2)
        wait_until(lambda: shown(client, owner.flow_run_id)["text"].data == "step 999")
    (warning,) = warnings_in(caplog)
    assert "The work goes on" in warning


def test_the_end_waits_for_a_silent_server_only_so_long(
    owner: Owner, network: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "LAST_FLUSH", 0.3)
    network.swallow()
    with Poster(owner, LOG) as poster:
        poster.show("text", text("never seen"))
    assert ["did not reach this page" in warning for warning in warnings_in(caplog)] == [True]
    network.restore()
    wait_until(lambda: not any(thread.name == "evidence" for thread in threading.enumerate()))


def test_a_card_that_cannot_be_drawn_is_told_and_costs_no_other(
    client: SyncPrefectClient, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    with Poster(owner, LOG) as poster:
        poster.show("broken", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
        poster.show("text", text("whole"))
    assert set(shown(client, owner.flow_run_id)) == {"text"}
    assert ["'broken'" in warning for warning in warnings_in(caplog)] == [True]


class Ear:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def track(self, title: str, total: int | None, unit: str) -> Any:
        self.heard.append(title)
        return progress.LogListener().track(title, total, unit)

    def tell(self, figures: progress.Figures) -> None:
        self.heard.append(figures)

    def say(self, message: str) -> None:
        self.heard.append(message)

    def began(self, piece: Piece) -> None:
        self.heard.append(piece)

    def moved(self) -> None: ...

    def ended(self, piece: Piece) -> None: ...


def test_the_log_and_whoever_listened_before_both_hear_the_work(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    bars, watcher = Ear(), Ear()
    with progress.listening(bars), listening(LOG, watcher), progress.track("Packing", total=9) as advance:
        progress.say("100% of it")
        advance(4)
        progress.tell({"loss": "0.5"})
        progress.log.warning("careful: %s", "hot")
    assert bars.heard == ["Packing", "100% of it", {"loss": "0.5"}]
    (piece,) = watcher.heard
    assert (piece.title, piece.total, piece.done, piece.figures) == ("Packing", 9, 4, {"loss": "0.5"})
    assert told_in(caplog) == ["100% of it", "careful: hot"]


def test_within_a_task_of_a_flow_that_listens_too_each_line_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    bars, log_of_flow = Ear(), logging.getLogger("the flow's own")
    with progress.listening(bars), listening(log_of_flow, Ear()):
        with listening(LOG, Ear()):
            progress.say("in the task")
            progress.log.warning("a warning in the task")
        progress.log.warning("in the flow")
    assert bars.heard == ["in the task"]
    assert told_in(caplog) == ["in the task", "a warning in the task"]
    assert told_in(caplog, log_of_flow.name) == ["in the flow"]


def told_in(caplog: pytest.LogCaptureFixture, log: str = LOG.name) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == log]


HISTORY = [
    {"epoch": 1, "train_loss": 1.5, "val_loss": 1.25, "val_accuracy": 0.5, "lr": 1e-3, "seconds": 2.04},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 1.5, "val_accuracy": None, "lr": None, "seconds": 2.0},
]


def test_the_table_of_epochs_is_short_and_marks_the_best() -> None:
    newest, oldest = table_rows(HISTORY, best=1)
    assert oldest == {
        "epoch": "1 ★", "train loss": "1.500", "val loss": "1.250", "accuracy": "0.500",
        "lr": "0.001", "time": "2.0 s", "images/s": "–",
    }  # fmt: skip
    assert (newest["epoch"], newest["accuracy"], newest["lr"]) == ("2", "–", "–")


def test_progress_tells_epoch_step_time_left_and_the_best_so_far(
    client: SyncPrefectClient, owner: Owner
) -> None:
    experiment = small_experiment(training={"epochs": 4, "batch_size": 32})
    run = stages.start(experiment)
    (run.folder / "history.json").write_text(json.dumps([HISTORY[0] | {"images_per_second": 60.0}]))
    with Poster(owner, LOG) as poster:
        training = Training(experiment, run, poster)
        training.epoch()
        piece = Piece("Epoch 2 of 4", 120, "images", done=60, figures={"step": "2 of 4", "loss": "0.7"})
        training.began(piece)
        wait_until(lambda: "step" in str(shown(client, owner.flow_run_id).get("progress")))
        card = shown(client, owner.flow_run_id)["progress"]
        assert card.data == 37.5
        for part in (
            "**epoch 2 of 4**",
            "left",
            "step 2 of 4 · loss 0.7",
            "images/s",
            "best: epoch 1, val loss 1.250",
        ):
            assert part in str(card.description)
        training.over(KeyboardInterrupt())
    card = shown(client, owner.flow_run_id)["progress"]
    assert str(card.description).startswith("**Stopped by KeyboardInterrupt** · 1 of 4 epochs")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.2, "4 s"), (59.7, "1 min 0 s"), (754, "12 min 35 s"), (3599, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_time_left_in_steps_that_a_reader_can_use(seconds: float, said: str) -> None:
    assert time_left(seconds) == f"about {said} left"


def test_names_from_strangers_files_stay_what_they_are_in_markdown() -> None:
    assert plain("a|b\n<img src=x>`_*") == r"a\|b &lt;img src=x&gt;\`\_\*"


def test_outside_a_flow_the_tasks_work_and_show_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """And the card of the results holds what a reader asks for."""
    experiment = small_experiment(training={"epochs": 1, "batch_size": 32})
    run = tasks.start.fn(experiment, None)
    packed = tasks.preprocess.fn(experiment, tasks.fetch.fn(experiment))
    assert tasks.train.fn(experiment, packed, run).epochs == 1
    tasks.evaluate.fn(run, reason="test", again=False)
    page, model_card = tasks.report.fn(run)
    card = draw_results(run, (page, model_card))
    assert str(card.data).count("](data:image/svg+xml;base64,") == 2
    for part in (
        "roc auc **",
        "95% intervals: bootstrap over",
        "| class |",
        "most often taken for",
        "quarantined: 0",
        f"`{page}`",
        f"`{model_card}`",
    ):
        assert part in str(card.data)
    assert "roc auc **" in card.description


SCRIPT = """
import json, logging, sys, time
sys.path.insert(0, {tests!r})
from proxy import Proxy
network = Proxy({port})
import os
os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{{network.port}}/api"

from histoflow import progress
from histoflow.experiment import load
from histoflow_flows.evidence import posting
from histoflow_flows.train import train_flow
posting.EVERY, posting._DRAWING_MAY_TAKE, posting._PATIENCE = 0.0, 1.0, 2.0
warned, lines = [], []

class Notes(logging.Handler):
    def emit(self, record):
        warned.append(record.getMessage())

class Terminal:
    def track(self, title, total, unit):
        return progress.LogListener().track(title, total, unit)

    def tell(self, figures): ...

    def say(self, message):
        lines.append(message)
        if message.startswith("Epoch 2/"):
            network.swallow()
        if message.startswith("Epoch 4/"):
            while not warned:
                time.sleep(0.05)
        if message.startswith("Epoch 6/"):
            network.restore()

notes = Notes(logging.WARNING)
logging.getLogger("prefect.task_runs").addHandler(notes)
small = ["dataset.images=180", "dataset.size=16", "training.epochs=6", "architecture.widths=[4]"]
small += ["evaluation={{gallery: 0, embedding: false}}"]
with progress.listening(Terminal()):
    state = train_flow(load("demo", ["name=cut", *small]), return_state=True)
flow_run = str(state.state_details.flow_run_id)
print(json.dumps({{"flow_run": flow_run, "state": state.type.value, "lines": lines, "warned": warned}}))
"""


def test_a_flow_that_loses_the_network_in_training_ends_well_and_its_page_is_whole(
    client: SyncPrefectClient, prefect_server: str, cli_environment: dict[str, str]
) -> None:
    """Training comes to its last epoch while the network is cut, which is what mends it."""
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), port=urlsplit(prefect_server).port)
    done = subprocess.run(
        [sys.executable, "-c", script], env=cli_environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["state"] == "COMPLETED"
    assert len([line for line in told["lines"] if line.startswith("Epoch ")]) == 6, "the terminal hears too"
    (warning,) = told["warned"]
    assert "The work goes on" in warning
    flow_run_id = UUID(told["flow_run"])
    cards = shown(client, flow_run_id)
    assert set(cards) == {"progress", "epochs", "curves", "results"}
    assert "6 of 6 epochs" in str(cards["progress"].description)
    assert json.loads(str(cards["epochs"].data))[0]["epoch"].startswith("6")
    assert "report.html`" in str(cards["results"].data)
    assert [line for line in logged(client, flow_run_id) if line.startswith("Epoch 1/6")]


def logged(client: SyncPrefectClient, flow_run_id: UUID) -> list[str]:
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    return [log.message for log in client.read_logs(log_filter=wanted)]
