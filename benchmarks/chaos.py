"""Kills, cancels and disconnects trainings at random, and tells whether any of it did harm.

    python benchmarks/chaos.py [--incidents 54] [--seed 0]

Starts ``histoflow up`` on a home of its own, and a worker whose network can be cut. Training after training
is submitted and met with incidents, then left alone until it is done. Each must end well, with the weights,
figures and single opening of the test split of a training that nothing befell; no process and no slot may be
left behind. Exits with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from live_system import System, until
from rich.console import Console
from rich.table import Table

Incident = Callable[[System, str], None]

EXPERIMENT = {
    "name": "chaos",
    "dataset": {"name": "tissue", "classes": 2, "size": 32, "images": 600},
    "augment": [{"name": "flips"}, {"name": "color_jitter", "strength": 0.1}],
    "architecture": {"name": "cnn", "widths": [8, 16], "dropout": 0.1},
    "scheduler": {"name": "one_cycle"},
    "training": {"epochs": 240, "batch_size": 16, "checkpoint_seconds": 1},
    "compute": {"device": "cpu"},
    "metrics": [{"name": "accuracy"}, {"name": "roc_auc"}],
}
INCIDENTS_A_RUN = 3
OUTAGE = 20.0
"""Seconds that server or database do not answer."""
NETWORK_OUTAGE = 60.0
PATIENCE = 600.0
"""Seconds after its last incident by which a run must be done."""

console = Console()


# ── Incidents ───────────────────────────────────────────────────────────────────────────────────


def kill_training(system: System, flow_run: str) -> None:
    _signal_training(system, flow_run, signal.SIGKILL)


def terminate_training(system: System, flow_run: str) -> None:
    _signal_training(system, flow_run, signal.SIGTERM)


def _signal_training(system: System, flow_run: str, number: signal.Signals) -> None:
    """Also in its first moments; where it is about to be restarted, as soon as it is."""
    until(lambda: system.processes_of(flow_run) or system.state(flow_run) == "COMPLETED", "a process")
    for process in system.processes_of(flow_run):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def kill_worker(system: System, flow_run: str) -> None:
    system.end_worker(signal.SIGKILL)
    system.start_worker()


def terminate_worker(system: System, flow_run: str) -> None:
    system.end_worker(signal.SIGTERM)
    system.start_worker()


def kill_server(system: System, flow_run: str) -> None:
    system.server.kill()


def freeze_server(system: System, flow_run: str) -> None:
    server = system.server
    server.suspend()
    time.sleep(OUTAGE)
    server.resume()


def cut_network(system: System, flow_run: str) -> None:
    system.network.cut()
    time.sleep(NETWORK_OUTAGE)
    system.network.mend()


def lock_database(system: System, flow_run: str) -> None:
    path = next((system.home / "prefect").glob("*.db"))
    with sqlite3.connect(path, timeout=60) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(OUTAGE)
        database.rollback()


def cancel(system: System, flow_run: str) -> None:
    state = {"type": "CANCELLING", "name": "Cancelling"}
    system.ask("POST", f"/flow_runs/{flow_run}/set_state", state=state)


INCIDENTS = (
    kill_training,
    terminate_training,
    kill_worker,
    terminate_worker,
    kill_server,
    freeze_server,
    cut_network,
    lock_database,
    cancel,
)


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Story:
    """One training and what befell it."""

    flow_run: str
    run_id: str | None = None
    incidents: list[str] = field(default_factory=list)
    restarts: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def tell(system: System, chance: random.Random, reference: dict[str, Any], deck: list[Incident]) -> Story:
    """Begin a training, and have it meet the next incidents of the deck while it lasts."""
    story = Story(system.submit(experiment=EXPERIMENT))
    begun = time.monotonic()
    try:
        while deck and len(story.incidents) < INCIDENTS_A_RUN:
            time.sleep(chance.uniform(0, 15))
            if system.state(story.flow_run) in ("COMPLETED", "FAILED"):
                break
            incident = deck.pop()
            story.incidents.append(incident.__name__)
            incident(system, story.flow_run)
            if incident is cancel:
                _go_on_after_cancelling(system, story)
        done = {"COMPLETED", "FAILED", "CANCELLED"}
        until(lambda: system.state(story.flow_run) in done, "the run's end", PATIENCE)
        story.restarts += system.restarts(story.flow_run)
        story.wrong = list(_compare(system, story, reference))
    except TimeoutError as error:
        story.wrong = [f"{error}; it is {system.state(story.flow_run)}"]
    story.seconds = time.monotonic() - begun
    return story


def _go_on_after_cancelling(system: System, story: Story) -> None:
    """A person who cancelled a training goes on with it by its id."""
    ends = {"CANCELLED", "COMPLETED"}
    until(lambda: system.state(story.flow_run) in ends, "the cancelling", 180)
    if system.state(story.flow_run) == "COMPLETED":
        return
    story.run_id = _folder_name(system, story)
    story.restarts += system.restarts(story.flow_run)
    story.flow_run = system.submit(experiment=EXPERIMENT, run_id=story.run_id)


def _folder_name(system: System, story: Story) -> str | None:
    if story.run_id is not None:
        return story.run_id
    suffix = UUID(story.flow_run).hex[-6:]
    return next((path.name for path in (system.home / "runs").glob(f"*-{suffix}")), None)


def _compare(system: System, story: Story, reference: dict[str, Any]) -> Iterator[str]:
    state = system.state(story.flow_run)
    if state != "COMPLETED":
        yield f"it ended {state}"
        return
    found = outcome(system.home / "runs" / str(_folder_name(system, story)))
    for name, value in reference.items():
        if found[name] != value:
            yield f"its {name} differ"


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same whatever befell the run: weights, figures, and that the seal was broken once."""
    from histoflow.engine import checkpoint

    last, best = (checkpoint.find(folder / "checkpoints", which) for which in ("last", "best"))
    history = json.loads((folder / "history.json").read_text())
    return {
        "weights": (last and last.model_hash, best and best.model_hash),
        "figures": [{key: entry[key] for key in entry if "second" not in key} for entry in history],
        "test figures": json.loads((folder / "metrics.json").read_text())["scores"],
        "openings": len(json.loads((folder / "openings.json").read_text())),
    }


def undisturbed(home: Path) -> dict[str, Any]:
    """The same training with nothing around it."""
    script = f"""
from histoflow import stages
from histoflow.experiment import parse
experiment = parse({EXPERIMENT!r})
run = stages.start(experiment, "undisturbed")
stages.train(experiment, stages.preprocess(experiment, stages.fetch(experiment)), run)
stages.evaluate(run)
"""
    environment = os.environ | {"HISTOFLOW_HOME": str(home), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    return outcome(home / "runs" / "undisturbed")


def shuffled(count: int, chance: random.Random) -> list[Incident]:
    """So many incidents; each kind comes about equally often."""
    deck: list[Incident] = []
    while len(deck) < count:
        deck += chance.sample(INCIDENTS, len(INCIDENTS))
    return deck[-count:]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--incidents", type=int, default=54, help="how many, in all (default: 54)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another story")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    home = Path(tempfile.mkdtemp(prefix="histoflow-chaos-"))
    console.print(f"Home: {home}", soft_wrap=True)
    reference = undisturbed(home)
    # Chance may strike one run more often than the usual cap of restarts allows.
    system = System(home, HISTOFLOW_RESTARTS="20", OMP_NUM_THREADS="1")
    stories: list[Story] = []
    leaked: dict[str, int] = {}
    try:
        system.start_worker()
        deck = shuffled(options.incidents, chance)
        while deck:
            stories.append(tell(system, chance, reference, deck))
            show(len(stories), stories[-1])
        leaked = slots_left(system)
    finally:
        orphans = system.end()
    conclude(stories, leaked, orphans)


def show(number: int, story: Story) -> None:
    verdict = "; ".join(story.wrong) or "right"
    befell = ", ".join(story.incidents)
    line = f"{number:3}  {story.seconds:4.0f} s  {story.restarts} restarts  {befell}: {verdict}"
    console.print(line, soft_wrap=True, highlight=False)


def slots_left(system: System) -> dict[str, int]:
    """The slots that are still taken when every lease has run out."""
    try:
        until(lambda: not system.slots_taken(), "the slots to come back", 150)
    except TimeoutError:
        return system.slots_taken()
    return {}


def conclude(stories: list[Story], leaked: dict[str, int], orphans: list[str]) -> None:
    kinds = Counter(incident for story in stories for incident in story.incidents)
    table = Table(title=f"{kinds.total()} incidents in {len(stories)} runs")
    table.add_column("incident")
    table.add_column("times", justify="right")
    for kind, times in sorted(kinds.items()):
        table.add_row(kind.replace("_", " "), str(times))
    console.print(table)
    right = sum(not story.wrong for story in stories)
    console.print(f"Runs that ended right, with equal weights and figures: {right} of {len(stories)}")
    console.print(f"Restarts: {sum(story.restarts for story in stories)}")
    console.print(f"Orphan processes: {len(orphans)}  {'; '.join(orphans)}", soft_wrap=True)
    console.print(f"Slots leaked: {sum(leaked.values())}  {leaked or ''}")
    sys.exit(0 if right == len(stories) and not orphans and not leaked else 1)


if __name__ == "__main__":
    main()
