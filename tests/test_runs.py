"""Runs are found, listed and read from their folders."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from histoflow import home as homes
from histoflow import recipes, runs, stages
from histoflow.errors import RunError
from support import small_experiment


def test_a_run_is_found_by_id_part_folder_or_as_the_latest() -> None:
    first, second = (stages.start(small_experiment(), name) for name in ("20260101-a-1", "20260102-b-2"))
    home = homes.runs()
    assert runs.find(home, "20260101-a-1") == first
    assert runs.find(home, "b-2") == second
    assert runs.find(home, str(first.folder)) == first
    assert runs.find(home, "latest") == second
    assert runs.listing(home) == [first, second]


def test_an_id_that_fits_no_run_or_several_is_refused() -> None:
    with pytest.raises(RunError, match="There is no run 'latest' in .*The newest are: none yet"):
        runs.find(homes.runs(), "latest")
    for name in ("2026-a", "2026-b"):
        stages.start(small_experiment(), name)
    with pytest.raises(RunError, match="'2026' fits 2 runs: 2026-a, 2026-b. Name one."):
        runs.find(homes.runs(), "2026")
    with pytest.raises(RunError, match="no run 'c'.*2026-a, 2026-b"):
        runs.find(homes.runs(), "c")


def test_the_yaml_in_the_folder_is_the_experiment() -> None:
    experiment = small_experiment()
    run = stages.start(experiment, "run")
    assert recipes.read(run.folder / "experiment.yaml") == experiment.to_data()


def test_a_run_of_a_later_schema_or_a_damaged_one_is_refused() -> None:
    run = stages.start(small_experiment(), "run")
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(RunError, match=r"made by a newer histoflow \(schema 2; this one reads up to 1\)"):
        run.read()
    path.write_text("[]")
    with pytest.raises(RunError, match=r"run\.json is missing or damaged"):
        run.read()


def test_what_a_kill_left_of_a_run_being_made_is_no_run(home) -> None:
    run = stages.start(small_experiment(), "whole")
    (home / "runs" / ".half.x1").mkdir()
    (home / "runs" / ".half.x1" / "run.json").write_text((run.folder / "run.json").read_text())
    assert runs.listing(homes.runs()) == [run]
    stages.start(small_experiment(), "half")
    assert not (home / "runs" / ".half.x1").exists()


def test_looking_whether_a_run_is_busy_never_stops_a_start() -> None:
    run = stages.start(small_experiment(), "run")
    script = f"""
from histoflow.runs import Run; from pathlib import Path
print("looking", flush=True)
while True: Run(Path({str(run.folder)!r})).is_busy()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as looker:
        assert looker.stdout
        looker.stdout.readline()
        for _ in range(20):
            with run.lock():
                pass
        looker.kill()


def test_ids_sort_by_time_and_differ() -> None:
    one, other = runs.new_id("demo"), runs.new_id("demo")
    assert one != other
    assert one.split("-")[2] == "demo"
    assert one[:15] <= other[:15]
