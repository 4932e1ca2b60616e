"""The wheel carries three import names and working entry points; strangers' packages join by pip."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from conftest import Cli, Typed

ROOT = Path(__file__).parents[1]

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.3"

[project.entry-points.histoflow]
{plugin} = "{module}"

[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""


def pip_install(target: Path, *what: str) -> None:
    """Really install, into a folder of its own, without reaching for the network."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), *what], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_brings_three_names_and_nothing_generic(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"histoflow", "histoflow_plugins", "histoflow_flows"}
    assert "histoflow/recipes/demo.yaml" in names
    assert "histoflow/report/page.html.j2" in names
    assert "histoflow/py.typed" in names
    assert "histoflow_flows/prefect.yaml" in names, "which 'histoflow deploy' sends"


def test_installed_from_the_wheel_its_entry_points_resolve(wheel: Path, tmp_path: Path) -> None:
    """The installed copy stands before the checkout, and every plugin and the command come from it."""
    site = tmp_path / "site"
    pip_install(site, str(wheel))
    script = """
import sys
from importlib.metadata import distribution
installed = distribution("histoflow")
for point in installed.entry_points:
    point.load()
    print(point.group, point.name)
import histoflow, histoflow_plugins, histoflow_flows
for package in (histoflow, histoflow_plugins, histoflow_flows):
    assert package.__file__.startswith(sys.argv[1]), package.__file__
from histoflow.registry import installed as plugins
assert plugins().failures == (), plugins().failures
"""
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(site)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "console_scripts histoflow" in lines
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["histoflow"]
    assert sum(line.startswith("histoflow ") for line in lines) == len(stated)


def readme_plugin() -> str:
    """The twenty-line plugin, as the README prints it."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if "@hookimpl" in block)


def write_package(folder: Path, name: str, source: str) -> Path:
    folder.mkdir()
    module = name.replace("-", "_")
    (folder / "pyproject.toml").write_text(
        PYPROJECT.format(name=name, plugin=name.removeprefix("histoflow-"), module=module)
    )
    (folder / f"{module}.py").write_text(source)
    return folder


LISTED_AND_MISSED = """
import sys
from contextlib import suppress
from histoflow_flows import cli
for words in (["plugins", "--json"], ["check", "demo", "--set", "architecture.name=huge"]):
    sys.argv = ["histoflow", *words]
    with suppress(SystemExit):
        cli.main()
"""


def test_the_readmes_plugin_trains_once_installed_and_a_broken_one_beside_it_stops_nothing(
    cli: Cli, cli_environment: dict[str, str], typed: Typed, tmp_path: Path, home: Path
) -> None:
    site = tmp_path / "site"
    pip_install(
        site,
        str(write_package(tmp_path / "ourlab", "histoflow-ourlab", readme_plugin())),
        str(write_package(tmp_path / "broken", "histoflow-broken", "raise RuntimeError('not today')")),
    )
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)

    told = subprocess.run(
        [sys.executable, "-c", LISTED_AND_MISSED],
        env=cli_environment | {"PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    status = {(entry["kind"], entry["name"]): entry for entry in json.loads(told.stdout)}
    assert status["architecture", "tiny"]["package"] == "histoflow-ourlab"
    assert status["architecture", "tiny"]["version"] == "0.3"
    assert status["plugin", "broken"]["status"] == "broken"
    assert "not today" in status["plugin", "broken"]["summary"]
    assert "Plugin 'broken' is broken and may be the one that has it" in told.stderr

    small = ("dataset.images=180", "dataset.size=16", "training.epochs=1", "reports=[]")
    plain = ("evaluation={gallery: 0, embedding: false}", "architecture.name=tiny")
    settings = [word for setting in (*small, *plain) for word in ("--set", setting)]
    done = cli("train", "demo", *settings, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    (run,) = (home / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert {"plugin": "ourlab", "package": "histoflow-ourlab", "version": "0.3"} in record["plugins"]

    refused = typed("check", "demo", "--set", "architecture.name=tiny")
    assert refused == 2, "without the package its component is not there"
