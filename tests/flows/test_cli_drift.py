"""``histoflow drift`` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import Typed
from histoflow import stages
from histoflow.data.store import PackedStore
from histoflow.runs import Run
from support import small_experiment
from test_drift import keep, pixels, write_reference


@pytest.fixture
def run() -> Run:
    """It has a reference, and has predicted nothing."""
    tissue = {"name": "tissue", "classes": 2, "size": 16, "images": 400, "slides": 100}
    experiment = small_experiment(dataset=tissue)
    run = stages.start(experiment, "run")
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    stages.hold_data(run, packed)
    write_reference(run, PackedStore(packed.folder))
    return run


def test_the_exit_code_tells_whether_images_have_drifted(
    typed: Typed, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pixels(PackedStore(Path(str(run.read().packed))).split("train"))
    assert typed("drift", "run") == 2
    assert "has predicted no image files" in capsys.readouterr().err
    keep(run, images[:20])
    assert typed("drift", "run") == 2
    assert "Too few images to tell drift: 20 were predicted" in capsys.readouterr().out
    keep(run, images)
    assert typed("drift", "latest") == 0
    told = capsys.readouterr().out
    assert "No drift: all 9 figures" in told
    assert told.count("inside") == 9
    keep(run, (images * 0.6).astype(np.uint8), problems=2)
    assert typed("drift", "run") == 3
    told = capsys.readouterr().out
    assert "brightness is lower" in told
    assert "2 of " in told
    assert "could not be predicted" in told


def test_other_programs_get_data(typed: Typed, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    images = pixels(PackedStore(Path(str(run.read().packed))).split("train"))
    keep(run, (images * 0.6).astype(np.uint8))
    keep(run, (images * 0.6).astype(np.uint8))
    assert typed("drift", "run", "--last", "2", "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["verdict"], found["predictions"]) == ("run", "outside", 2)
    (brightness,) = [one for one in found["differences"] if one["figure"] == "brightness"]
    assert brightness["outside"]
    assert brightness["distance"] > brightness["band"] > 0
