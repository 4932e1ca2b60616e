"""Plugins are found, fenced and listed; a broken one stops nothing."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from histoflow import hookspecs
from histoflow.components import KINDS, Architecture, Metric
from histoflow.errors import ExperimentError, PluginError
from histoflow.registry import Registry, installed, load

GOOD = """
from histoflow import Metric, Params, Score, hookimpl

@hookimpl
def histoflow_metrics():
    return [Metric(name="{name}", summary="Always one", params=Params, score=lambda p, x, y: Score(value=1.0))]
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write plugin modules, and load them as entry points."""
    monkeypatch.syspath_prepend(tmp_path)

    def load_all(allow: tuple[str, ...] = (), deny: tuple[str, ...] = (), **sources: str) -> Registry:
        points = []
        for name, source in sources.items():
            (tmp_path / f"plugin_{name}.py").write_text(source)
            monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)
            points.append(EntryPoint(name=name, value=f"plugin_{name}", group=hookspecs.GROUP))
        return load(points, allow, deny)

    return load_all


def test_every_built_in_plugin_loads_and_every_kind_has_a_component() -> None:
    registry = installed()
    assert registry.failures == ()
    assert {kind for kind, _ in registry.components} == {kind.kind for kind in KINDS}


def test_each_kind_of_component_has_its_hook() -> None:
    for kind in KINDS:
        assert callable(getattr(hookspecs, f"histoflow_{kind.plural}"))


def test_a_component_is_had_by_kind_and_name(plugins) -> None:
    registry = plugins(one=GOOD.format(name="one"))
    assert registry.get(Metric, "one").summary == "Always one"
    assert registry.provider(Metric, "one").plugin == "one"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("raise RuntimeError('at import')", "at import"),
        ("", "it implements no hook"),
        (
            "from histoflow import hookimpl\n@hookimpl\ndef histoflow_metrics():\n    raise ValueError('in a hook')",
            "in a hook",
        ),
        (
            "from histoflow import hookimpl\n@hookimpl\ndef histoflow_metrics():\n    yield 1\n    raise ValueError",
            "ValueError",
        ),
        (
            "from histoflow import hookimpl\n@hookimpl\ndef histoflow_metrics():\n    return ['rubbish']",
            "must return histoflow.Metric records. Got 'rubbish'",
        ),
        (
            "from histoflow import hookimpl\n@hookimpl\ndef histoflow_metrics():\n    return None",
            "'NoneType' object is not iterable",
        ),
        (
            "from histoflow import hookimpl\n@hookimpl\ndef histoflow_colours():\n    return ()",
            "unknown hook 'histoflow_colours'",
        ),
        (
            "HISTOFLOW_API_REQUIRES = '>=2'\n" + GOOD.format(name="future"),
            "it demands histoflow's plugin API >=2, and this one is 1.0",
        ),
        (
            "HISTOFLOW_API_REQUIRES = 'newest'\n" + GOOD.format(name="newest"),
            "must be a version specifier like \">=1,<2\". Got 'newest'",
        ),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        (GOOD.format(name="mute").replace('"Always one"', "None"), "summary of metric 'mute' must be text"),
        (GOOD.format(name="still").replace("score=lambda p, x, y: Score(value=1.0)", "score=1"), "score of metric"),
        (GOOD.format(name="Loud Name"), "must be lower-case letters, digits and '_'. Got 'Loud Name'"),
    ],
    ids=[
        "import", "raises", "empty", "hook", "generator", "rubbish", "none", "unknown-hook", "api", "specifier", "exits", "summary", "score", "name",
    ],
)  # fmt: skip
def test_a_broken_plugin_is_kept_as_a_failure_and_stops_nothing(plugins, source: str, reason: str) -> None:
    registry = plugins(bad=source, good=GOOD.format(name="good"))
    assert [failure.provider.plugin for failure in registry.failures] == ["bad"]
    assert reason in registry.failures[0].reason
    assert list(registry.of_kind(Metric)) == ["good"]


def test_what_a_plugin_prints_does_not_stand_in_our_output(
    plugins, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins(loud="print('hello')\n" + GOOD.format(name="loud"))
    assert capsys.readouterr() == ("", "hello\n")


NESTED = """
from histoflow import Metric, Params, Score, hookimpl

class Inner(Params):
    depth: int = 1

class Outer(Params):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()

def check(params, data):
    raise KeyError("in check")

@hookimpl
def histoflow_metrics():
    return [Metric(name="nested", summary="", params=Outer, score=lambda p, x, y: Score(value=1.0), check=check)]
"""


def test_an_unknown_key_in_nested_parameters_is_told_with_the_legal_ones(plugins) -> None:
    from histoflow.experiment import parse

    registry = plugins(nested=NESTED, tissue="from histoflow_plugins.tissue import *")
    wrong = {"name": "nested", "inner": {"dept": 2}, "several": [{"dept": 2}]}
    with pytest.raises(ExperimentError) as raised:
        parse({"dataset": "tissue", "metrics": [wrong]}, registry)
    messages = {problem.path: problem.message for problem in raised.value.problems}
    assert "there are depth. Did you mean 'depth'?" in messages["metrics.0.inner.dept"]
    assert "there are depth. Did you mean 'depth'?" in messages["metrics.0.several.0.dept"]


def test_a_plugins_own_failure_while_checking_names_the_plugin(plugins) -> None:
    from histoflow.experiment import parse

    built_in = {
        name: f"from histoflow_plugins.{module} import *"
        for name, module in (
            ("tissue", "tissue"),
            ("cnn", "cnn"),
            ("losses", "losses"),
            ("opt", "optimizers"),
        )
    } | {
        "sched": "from histoflow_plugins.schedulers import *",
        "html": "from histoflow_plugins.html_report import *",
        "card": "from histoflow_plugins.model_card import *",
    }
    registry = plugins(nested=NESTED, **built_in)
    with pytest.raises(
        PluginError, match=r"metric 'nested' of .*'nested'.* failed while .*KeyError: 'in check'"
    ):
        parse({"dataset": "tissue", "architecture": "cnn", "metrics": ["nested"]}, registry)


def test_one_raising_hook_leaves_the_plugins_other_hooks(plugins) -> None:
    source = GOOD.format(name="kept") + "\n@hookimpl\ndef histoflow_losses():\n    raise ValueError('no')\n"
    registry = plugins(half=source)
    assert list(registry.of_kind(Metric)) == ["kept"]
    assert registry.failures[0].reason == "histoflow_losses: ValueError: no"


def test_an_accepted_api_version_lets_the_plugin_in(plugins) -> None:
    registry = plugins(fine="HISTOFLOW_API_REQUIRES = '>=1,<2'\n" + GOOD.format(name="fine"))
    assert registry.failures == ()


def test_two_providers_of_one_name_are_both_named_and_neither_is_used(plugins) -> None:
    registry = plugins(first=GOOD.format(name="same"), second=GOOD.format(name="same"))
    assert registry.of_kind(Metric) == {}
    with pytest.raises(
        PluginError,
        match=r"The metric 'same' is claimed by .*'first'.* and .*'second'.*HISTOFLOW_PLUGINS_DENY",
    ):
        registry.get(Metric, "same")


def test_leaving_one_of_two_rivals_out_settles_the_conflict(plugins) -> None:
    sources = {"first": GOOD.format(name="same"), "second": GOOD.format(name="same")}
    assert plugins(deny=("second",), **sources).provider(Metric, "same").plugin == "first"
    assert plugins(allow=("second",), **sources).provider(Metric, "same").plugin == "second"


def test_an_unknown_name_is_answered_with_the_legal_ones_and_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"must be one of .*resnet.*Got 'resnett'. Did you mean 'resnet'\?"):
        installed().get(Architecture, "resnett")


def test_a_broken_plugin_is_mentioned_where_a_name_is_missing(plugins) -> None:
    registry = plugins(bad="raise RuntimeError('oh')")
    with pytest.raises(PluginError, match="Plugin 'bad' is broken and may be the one that has it"):
        registry.get(Metric, "wanted")


def test_the_environment_allows_and_denies_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTOFLOW_PLUGINS_ALLOW", "losses, metrics")
    monkeypatch.setenv("HISTOFLOW_PLUGINS_DENY", "metrics")
    installed.cache_clear()
    try:
        assert {kind for kind, _ in installed().components} == {"loss"}
    finally:
        monkeypatch.undo()
        installed.cache_clear()
