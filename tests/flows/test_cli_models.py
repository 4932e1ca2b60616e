"""``histoflow models``, ``promote``, ``reject`` and ``rollback`` as a person types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Typed
from gated import keep
from histoflow import models, stages
from histoflow.home import runs
from histoflow.retraining.gate import Gate, incomparable
from histoflow.runs import Run
from histoflow_flows import cli_models
from registering import Columns, trained, variant
from support import small_experiment


def knowing(columns: Columns) -> Columns:
    return {"probabilities": 0.05 + 0.9 * np.eye(2)[columns["labels"]]}


def mistaken(columns: Columns) -> Columns:
    """Right of a few images only."""
    probabilities = always_mistaken(columns)["probabilities"]
    probabilities[::4] = knowing(columns)["probabilities"][::4]
    return {"probabilities": probabilities}


def always_mistaken(columns: Columns) -> Columns:
    return {"probabilities": 1 - knowing(columns)["probabilities"]}


def elsewhere(columns: Columns) -> Columns:
    return {"labels": 1 - columns["labels"]}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        first = trained("first")
        for change in (knowing, mistaken, always_mistaken, elsewhere):
            variant(first, change.__name__, change)
        stages.start(small_experiment(name="colon"), "untrained")
    return home


@pytest.fixture(autouse=True)
def home(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOFLOW_HOME", str(evaluated))
    monkeypatch.setenv("COLUMNS", "160")
    shutil.rmtree(evaluated / "models", ignore_errors=True)
    return evaluated


Captured = pytest.CaptureFixture[str]


def test_the_first_run_becomes_the_champion_and_a_better_one_takes_its_place(
    typed: Typed, capsys: Captured
) -> None:
    assert typed("promote", "first", "--why", "the first") == 0
    assert "colon@1 is the champion." in capsys.readouterr().out
    assert typed("promote", "knowing") == 0
    shown = capsys.readouterr().out
    assert "A is the champion colon@1, B is colon@2. B is better: accuracy" in shown
    assert "colon@2 is the champion, in place of version 1." in shown
    record = models.find_line("colon").state.changes[-1].path.read_text()
    assert "## Beside the champion until then" in record
    assert "B is better: accuracy" in record


def test_a_worse_one_is_refused_unless_it_is_wanted_anyway(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "knowing") == 0
    assert typed("promote", "mistaken") == 2
    told = capsys.readouterr()
    assert "B is worse: accuracy" in told.out
    assert "colon@2 was not promoted, and is candidate: the champion colon@1 is better." in told.err
    assert "histoflow promote colon@2 --anyway" in told.err
    assert models.find("colon").number == 1
    assert typed("promote", "colon@2", "--anyway") == 0
    assert models.find("colon").number == 2
    record = models.find_line("colon").state.changes[-1].path.read_text()
    assert "It was promoted all the same: the champion colon@1 is better." in record


def test_one_whose_figure_is_worse_without_an_interval_is_refused(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "knowing") == 0
    assert typed("promote", "always_mistaken") == 2
    told = capsys.readouterr().err
    assert "its figure is worse, and there is no telling whether by chance: no interval" in told


def test_one_that_cannot_be_compared_is_refused_with_the_reason(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "first") == 0
    assert typed("promote", "elsewhere") == 2
    told = capsys.readouterr().err
    assert "it cannot be compared with the champion colon@1" in told
    assert "Labels of 27 of 27 images differ" in told
    assert typed("promote", "colon@2", "--anyway") == 0


def test_what_is_champion_already_stays_so(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "first", "--name", "other") == 0
    assert typed("promote", "other@1") == 0
    assert "other@1 is the champion already; nothing was changed." in capsys.readouterr().out
    assert len(models.find_line("other").state.changes) == 1


def test_rollback_brings_the_former_champion_back(typed: Typed, capsys: Captured) -> None:
    typed("promote", "first")
    typed("promote", "knowing")
    assert typed("rollback", "colon", "--why", "it fails on slide 7") == 0
    assert "colon@1 is the champion again, in place of version 2." in capsys.readouterr().out
    assert models.find_line("colon").state.changes[-1].why == "it fails on slide 7"
    assert typed("rollback", "colon") == 2
    assert "no champion before colon@1 to go back to" in capsys.readouterr().err


def test_a_version_that_is_held_can_be_turned_down(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "first") == 0
    held = models.register(Run(runs() / "knowing"))
    models.hold("colon", held.number, why="unsure", by="gate")
    assert typed("reject", "colon@2", "--why", "blurred slides") == 0
    assert "colon@2 is rejected." in capsys.readouterr().out
    assert (held.stage, models.find("colon").number) == ("rejected", 1)
    assert models.find_line("colon").state.changes[-1].why == "blurred slides"
    assert typed("reject", "colon") == 2
    assert "colon@1 is champion. Another one must take its place first" in capsys.readouterr().err


def test_the_run_of_a_version_that_a_gate_held_tells_what_was_decided(typed: Typed, capsys: Captured) -> None:
    run = Run(runs() / "knowing")
    experiment = run.read().experiment
    run.update(experiment={**experiment, "reports": [{"name": "model_card"}]})
    keep(run.folder, incomparable("Its classes are others.", Gate()))
    assert typed("promote", "first") == 0
    held = models.register(run)
    models.hold("colon", held.number, why="unsure", by="gate")
    assert typed("promote", "colon@2", "--why", "looked at", "--anyway") == 0
    told = (run.folder / "MODEL_CARD.md").read_text()
    assert "gate: hold for a person. Its classes are others." in told
    assert "colon@2 was promoted by" in told
    assert "could not be written" not in capsys.readouterr().out
    for name in ("gate.json", "settled.json", "CHANGE.md", "MODEL_CARD.md"):
        (run.folder / name).unlink()
    run.update(experiment=experiment)


def test_one_that_was_rejected_is_promoted_only_anyway_and_the_record_says_so(
    typed: Typed, capsys: Captured
) -> None:
    assert typed("promote", "first") == 0
    models.register(Run(runs() / "knowing"))
    assert typed("reject", "colon@2", "--why", "![p](http://e/p.png)") == 0
    assert "`histoflow promote colon@2 --anyway`" in last_record()
    assert typed("promote", "colon@2") == 2
    assert "and is rejected: it was rejected (![p](http://e/p.png))." in capsys.readouterr().err
    assert typed("promote", "colon@2", "--anyway") == 0
    assert models.find("colon").number == 2
    assert r"promoted all the same: it was rejected (\!\[p\](http://e/p.png))." in last_record()
    assert "`histoflow rollback colon`" in last_record()


def last_record() -> str:
    return models.find_line("colon").state.changes[-1].path.read_text()


def test_a_lost_state_is_told_with_the_command_that_restores_it(typed: Typed, capsys: Captured) -> None:
    assert typed("promote", "first") == 0
    (models.find("colon").line / "state.json").unlink()
    for words in (("promote", "colon@1"), ("models", "colon"), ("promote", "knowing")):
        assert typed(*words) == 2
        assert "histoflow models colon --restore" in capsys.readouterr().err
    assert typed("models", "colon", "--restore") == 0
    assert models.find("colon").number == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("promote", "untrained"), "Run untrained has not been evaluated"),
        (("promote", "nobody"), "There is no run 'nobody'"),
        (("promote", "colon@1"), "There is no model 'colon', nor any other yet"),
        (("promote", "colon@1", "--name", "other"), "colon@1 is one already. Leave it out."),
        (("promote", "first", "--name", "../other"), "The id of a model must be"),
        (
            ("promote", "first", "--name", "latest"),
            "cannot be named 'latest', which is the name of the newest",
        ),
        (("promote", "first", "--name", "knowing"), "--name NAME"),
        (("promote", "first", "--name", "x" * 61), "at most 60 letters"),
        (("reject", "colon@1"), "There is no model 'colon', nor any other yet"),
        (("models", "--restore"), "histoflow models NAME --restore"),
        (("rollback", "colon"), "Register one: histoflow promote RUN"),
        (("models", "colon"), "Register one: histoflow promote RUN"),
    ],
)
def test_what_cannot_be_done_is_told(
    typed: Typed, capsys: Captured, words: tuple[str, ...], message: str
) -> None:
    assert typed(*words) == 2
    assert message in capsys.readouterr().err
    assert models.listing() == []


def test_models_are_listed_with_their_champions(typed: Typed, capsys: Captured) -> None:
    assert typed("models") == 0
    assert "No models yet." in capsys.readouterr().out
    typed("promote", "first")
    typed("promote", "first", "--name", "other")
    models.register(models.find("colon").run, "third")
    (models.find("other").line / "state.json").write_text("[]")
    capsys.readouterr()
    assert typed("models") == 0
    shown = capsys.readouterr().out
    figure = models.find("colon").record.metrics["accuracy"]
    assert figure.interval is not None
    assert f"accuracy {figure.value:.3f} ({figure.interval[0]:.3f} to {figure.interval[1]:.3f})" in shown
    assert "none of 1" in shown
    assert "unreadable" in shown
    assert typed("models", "--json") == 0
    told = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert told["colon"]["champion"]["run"] == "first"
    assert told["third"]["champion"] is None
    assert "state.json is damaged" in told["other"]["unreadable"]


def test_the_versions_of_one_are_listed_with_its_changes(typed: Typed, capsys: Captured) -> None:
    typed("promote", "first", "--why", "the first")
    typed("promote", "knowing")
    capsys.readouterr()
    assert typed("models", "colon", "--verify") == 0
    shown = capsys.readouterr().out
    for expected in ("archived", "champion", "2 for 1", "the first", "Every file is the one"):
        assert expected in shown
    assert typed("models", "colon", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["stage"] for one in told["versions"]] == ["archived", "champion"]
    assert [one["parent"] for one in told["versions"]] == [None, 1]
    assert Path(told["changes"][1]["path"]).is_file()
    (models.find("colon@1").folder / "metrics.json").write_text("{}")
    assert typed("models", "colon", "--verify") == 2
    assert "metrics.json of colon@1 was changed" in capsys.readouterr().err


def test_the_reason_of_a_change_stands_under_it_however_long_it_is(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_models.display.out, "_width", 60)
    change = {
        "number": 4,
        "time": "2026-11-21T12:00:00+00:00",
        "what": "promote",
        "version": 3,
        "replaced": 2,
    }
    cli_models._show_change({**change, "by": "Ada", "why": "It was looked at [all of it]. " * 5})
    head, *why = capsys.readouterr().out.splitlines()
    assert head.strip() == "4  2026-11-21 12:00 UTC  promote 3 for 2  by Ada"
    assert len(why) == 3
    assert all(line.startswith("   ") and len(line.rstrip()) <= 60 for line in why)
    assert " ".join(" ".join(why).split()) == ("It was looked at [all of it]. " * 5).strip()
