"""What Prefect adds: from ``deployment run`` to the first batch, and the flow over the bare stages.

python benchmarks/orchestration.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from live_system import System, until
from rich.console import Console

QUICK = {
    "name": "quick",
    "dataset": {"name": "tissue", "classes": 2, "size": 32, "images": 180},
    "architecture": {"name": "cnn", "widths": [8]},
    "training": {"epochs": 1},
    "compute": {"device": "cpu"},
}
TEN_MINUTES = 600.0

BARE = """
import time
from histoflow import stages
from histoflow.experiment import load
experiment = load("demo")
begun = time.perf_counter()
run = stages.start(experiment)
packed = stages.preprocess(experiment, stages.fetch(experiment))
stages.train(experiment, packed, run)
stages.evaluate(run)
stages.report(run)
print("SECONDS", time.perf_counter() - begun)
"""
FLOW = """
import time
from histoflow.experiment import load
from histoflow_flows.train import train_flow
experiment = load("demo")
begun = time.perf_counter()
train_flow(experiment)
print("SECONDS", time.perf_counter() - begun)
"""

console = Console()


def first_batch(system: System) -> float:
    """Seconds from typing ``prefect deployment run`` until training begins."""
    before = set(_training(system.home))
    begun = time.monotonic()
    command = ["deployment", "run", "train-flow/train-flow", "--params", json.dumps({"experiment": QUICK})]
    environment = system.environment | {"PREFECT_API_URL": f"{system.api.base_url}"}
    subprocess.run(
        [sys.executable, "-m", "prefect", *command], env=environment, check=True, capture_output=True
    )
    until(lambda: set(_training(system.home)) - before, "a training to begin")
    seconds = time.monotonic() - begun
    until(lambda: not list(system.flow_processes()), "the flow's process to end")
    return seconds


def _training(home: Path) -> list[Path]:
    """The runs that have come as far as their first step."""
    records = home.glob("runs/[!.]*/run.json")
    return [path for path in records if json.loads(path.read_text())["sessions"]]


def timed(script: str, environment: dict[str, str]) -> float:
    """Seconds that the script measured, its imports not counted."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    return float(line.split()[1])


def show(title: str, seconds: Sequence[float]) -> None:
    spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
    console.print(
        f"{title}: {statistics.median(seconds):.1f} s ({spread}, n = {len(seconds)})", highlight=False
    )


def repeat(count: int, measure: Callable[[], float]) -> list[float]:
    return [measure() for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (default: 3)")
    repeats = parser.parse_args().repeats
    system = System(Path(tempfile.mkdtemp(prefix="histoflow-orchestration-")))
    try:
        system.start_worker()
        show("From 'prefect deployment run' to the first batch", repeat(repeats, lambda: first_batch(system)))
        bare_environment = os.environ | {"HISTOFLOW_HOME": str(system.home)}
        flow_environment = system.environment | {"PREFECT_API_URL": f"{system.api.base_url}"}
        timed(BARE, bare_environment)  # packs the data
        pairs = [(timed(BARE, bare_environment), timed(FLOW, flow_environment)) for _ in range(repeats)]
    finally:
        left = system.end()
    assert not left, f"these were left behind: {left}"
    show("The demo's stages alone", [bare for bare, _ in pairs])
    show("The demo as a flow, against the server", [flow for _, flow in pairs])
    added = [flow - bare for bare, flow in pairs]
    show("What the flow adds", added)
    share = statistics.median(added) / TEN_MINUTES
    console.print(f"Of a run of 10 minutes, if it stays the same: {share:.1%}", highlight=False)


if __name__ == "__main__":
    main()
