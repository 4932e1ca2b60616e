"""Packed data that nothing needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from histoflow import crossvalidation, stages
from histoflow.errors import RunError
from histoflow.runs import Run
from histoflow.unused import find_unused, remove
from support import prepared, preprocessed, small_experiment


def names(youngest: float = 0.0) -> list[str]:
    return [unused.folder.name for unused in find_unused(youngest)]


@pytest.fixture
def run() -> Run:
    """A run that refers to its data."""
    experiment = small_experiment(training={"epochs": 1})
    run, packed = prepared(experiment, "run")
    run.update(packed=str(packed.folder))
    return run


def test_data_that_a_run_refers_to_are_kept_and_all_others_found(run: Run, home: Path) -> None:
    packed = home / "data" / "packed"
    (packed / "old-0123").mkdir()
    (packed / "old-0123" / "manifest.json").write_text("{}")
    (packed / ".new-4567.abc").mkdir()
    assert names() == ["old-0123"], "a hidden folder is perhaps being written"
    os.utime(packed / ".new-4567.abc", (0, 0))
    assert {unused.folder.name: unused.what for unused in find_unused(0)} == {
        "old-0123": "packed data",
        ".new-4567.abc": "left by packing that was interrupted",
    }


def test_data_are_known_by_name_where_the_home_has_another_path(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.rename(home.with_name("elsewhere"))
    monkeypatch.setenv("HISTOFLOW_HOME", str(home.with_name("elsewhere")))
    assert names() == []


def test_what_a_run_began_with_meanwhile_stays(run: Run, home: Path) -> None:
    record = run.read()
    run.update(packed=None)
    (unused,) = find_unused(0)
    run.update(packed=record.packed)
    assert not remove(unused)
    assert unused.folder.is_dir()


def test_data_of_folds_that_wait_are_kept(home: Path) -> None:
    experiment = small_experiment(training={"epochs": 1, "folds": 2})
    begun = crossvalidation.begin(experiment, "folds")
    packed = preprocessed(experiment)
    begun.hold_data(packed.folder, packed.fingerprint)
    stages.cut(begun.fold(1).experiment, packed)
    assert len([path for path in (home / "data" / "packed").iterdir() if path.is_dir()]) == 3
    assert names() == []


def test_what_was_made_a_moment_ago_may_be_wanted_by_a_run_that_is_about_to_begin(home: Path) -> None:
    old = home / "data" / "packed" / "old-0123"
    old.mkdir(parents=True)
    assert names(youngest=60) == []
    os.utime(old, (0, 0))
    assert names(youngest=60) == ["old-0123"]


def test_a_run_that_cannot_be_read_stops_all(run: Run, home: Path) -> None:
    (run.folder / "run.json").write_text("{")
    with pytest.raises(RunError, match="run.json is missing or damaged"):
        find_unused(0)


def test_removing_leaves_nothing_of_it_and_the_data_of_runs(run: Run, home: Path) -> None:
    packed = home / "data" / "packed"
    (packed / "old-0123" / "train").mkdir(parents=True)
    (unused,) = find_unused(0)
    assert remove(unused)
    assert names() == []
    assert [path for path in packed.iterdir() if path.is_dir()] == [Path(str(run.read().packed))]


def test_data_that_another_process_packs_stay(home: Path) -> None:
    old = home / "data" / "packed" / ".old-0123.decoded"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    (unused,) = find_unused(0)
    with FileLock(old.with_name("old-0123.lock")):
        assert not remove(unused)
    assert old.is_dir()
