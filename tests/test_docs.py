"""The documents are held to account: their snippets run, their commands exist."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from histoflow import hookspecs
from histoflow.components import KINDS, Component
from histoflow.experiment import parse
from histoflow.testing import check_component
from histoflow.tuning.checking import space_of
from histoflow.tuning.settings import is_tuning, parse_tuning

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOOKS = [f"histoflow_{kind.plural}" for kind in KINDS]


def blocks(language: str) -> list[str]:
    pattern = rf"```{language}\n(.*?)```"
    return [block for path in DOCUMENTS for block in re.findall(pattern, path.read_text(), re.DOTALL)]


@pytest.mark.parametrize("hook", HOOKS)
def test_the_plugin_in_each_hooks_docstring_keeps_the_contract(hook: str) -> None:
    docstring = inspect.getdoc(getattr(hookspecs, hook)) or ""
    source = textwrap.dedent(docstring.split("::\n", 1)[1])
    module = types.ModuleType(f"docstring_of_{hook}")
    sys.modules[module.__name__] = module  # pydantic looks annotations up there
    exec(source, module.__dict__)
    components: tuple[Component[object], ...] = getattr(module, hook)()  # type: ignore[type-var]
    assert len(components) == 1
    check_component(components[0])


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_documented_with_its_exact_signature(hook: str) -> None:
    signature = inspect.signature(getattr(hookspecs, hook), eval_str=False)
    assert f"`{hook}{signature}`" in (ROOT / "docs" / "plugins.md").read_text()


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_experiment_and_tuning_in_the_documents_is_valid(text: str) -> None:
    data = YAML(typ="safe", pure=True).load(text)
    if is_tuning(data):
        space_of(parse_tuning(data))
    else:
        parse(data)


@pytest.mark.parametrize("source", blocks("python"))
def test_every_python_snippet_compiles(source: str) -> None:
    compile(source, "snippet", "exec")


def test_the_guides_example_of_the_stages_runs(capsys: pytest.CaptureFixture[str]) -> None:
    source = next(block for block in blocks("python") if "stages.start" in block)
    exec(compile(source, "docs/guide.md", "exec"), {})
    assert "'accuracy'" in capsys.readouterr().out


def test_every_command_in_the_documents_exists() -> None:
    import typer

    from histoflow_flows.cli import app

    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = {
        word
        for block in blocks("(?:sh|console)")
        for word in re.findall(r"^(?:\$ )?histoflow ([\w-]+)", block, re.M)
    }
    assert named
    assert named <= known


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {target for path in DOCUMENTS for target in re.findall(r"`?make ([a-z]+)", path.read_text())}
    assert named <= targets, named - targets


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
