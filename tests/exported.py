"""A run that was trained and evaluated once for all tests of bundles."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from histoflow import stages
from histoflow.bundles.bundle import Manifest
from histoflow.bundles.exporting import Source, Wanted, export_run, of_run
from histoflow.registry import installed
from histoflow.runs import Run
from support import small_experiment, trained


@cache
def evaluated_run() -> Run:
    """Of a preprocessing chain, a threshold of its own and prediction sets; its home lasts as long as the tests."""
    home = Path(tempfile.mkdtemp(prefix="histoflow-exported-"))
    atexit.register(shutil.rmtree, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        experiment = small_experiment(
            name="patches",
            preprocess=[{"name": "resize", "size": 24}],
            training={"epochs": 2, "batch_size": 32},
            evaluation={"threshold": "youden", "gallery": 0, "embedding": False},
        )
        run = trained(experiment, "patches-run")
        stages.evaluate(run)
    return run


@cache
def bundle() -> Path:
    """Its weights, without other forms."""
    return export_to(evaluated_run().folder.parent.parent / "patches.histoflow")


def export_to(path: Path, run: Run | None = None, *, forms: bool = False) -> Path:
    run = run or evaluated_run()
    wanted = Wanted(out=path, onnx=forms, torch_export=forms, overwrite=True)
    export_run(stages.experiment_of(run), run, wanted, installed())
    return path


def source() -> Source:
    run = evaluated_run()
    return of_run(stages.experiment_of(run), run, installed())


def repacked(
    folder: Path, change: Callable[[dict[str, bytes]], Any], compression: int = zipfile.ZIP_STORED
) -> Path:
    """The bundle, with its entries changed."""
    with zipfile.ZipFile(bundle()) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    path = folder / "changed.histoflow"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """The bundle of somebody who knows how to write one, with another manifest."""

    def seal(entries: dict[str, bytes]) -> None:
        data = change(json.loads(entries["manifest.json"]))
        sealed = Manifest.model_validate(data).sealed() if data["format"] == 1 else None
        entries["manifest.json"] = sealed.model_dump_json().encode() if sealed else json.dumps(data).encode()

    return repacked(folder, seal)
