"""Commands that find settings, and explain them, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from histoflow.errors import UserError
from histoflow_flows.cli import app

EXPERIMENT = """
name: small
dataset: {name: tissue, classes: 2, size: 32, images: 180, slides: 15}
architecture: {name: cnn, widths: [8, 16]}
training: {epochs: 3, batch_size: 32}
compute: {device: cpu, threads: 1}
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT)
    return str(path)


def test_lr_find_prints_suggestions_and_where_the_curve_is(home: Path, experiment: str) -> None:
    done = inside("lr-find", experiment, "--steps", "60", "--from", "1e-5")
    assert done.exit_code == 0, done.exception
    (folder,) = (home / "lr-find").iterdir()
    told = json.loads((folder / "lr-find.json").read_text())
    assert f"--set optimizer.lr={told['steepest']:.2g}" in done.stdout
    assert f"{told['tenth_of_best']:.2g}" in done.stdout
    assert str(folder / "lr-find.png") in done.stdout
    assert (folder / "lr-find.png").is_file()
    assert not (home / "runs").exists(), "no run is made of it"


def inside(*arguments: str) -> Result:
    """The command within this process, which is quicker."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)


def test_lr_find_writes_where_it_is_told_to(tmp_path: Path, experiment: str) -> None:
    done = inside("lr-find", experiment, "--steps", "20", "--out", str(tmp_path / "found"))
    assert done.exit_code == 0, done.exception
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["lr-find.json", "lr-find.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--steps", "5"), "--steps must be at least 20"), (("--from", "1", "--to", "0.1"), "below --to")],
)
def test_lr_find_refuses_what_shows_nothing_before_it_fetches_data(
    home: Path, experiment: str, arguments: tuple[str, ...], message: str
) -> None:
    done = inside("lr-find", experiment, *arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert not (home / "data").exists()


def test_check_explains_each_setting(experiment: str) -> None:
    shown = inside("check", experiment, "--explain")
    assert shown.exit_code == 0, shown.exception
    assert "is valid" in shown.stdout
    for setting in ("compute.precision", "compute.graphs", "training.batch_size", "peak memory"):
        assert setting in shown.stdout


def test_check_explains_as_data(experiment: str) -> None:
    told = json.loads(inside("check", experiment, "--explain", "--json").stdout)
    rows = {row["setting"]: row for row in told}
    assert rows["compute.threads"] == {
        "setting": "compute.threads",
        "asked": "1",
        "here": "1",
        "why": "asked for",
    }


def test_the_experiment_of_a_tuning_is_explained() -> None:
    shown = inside("check", "pathmnist-tune", "--explain", "--set", "compute.device=cpu")
    assert shown.exit_code == 0, shown.exception
    assert "it searches" in shown.stdout
    assert "compute.precision" in shown.stdout
