"""The registry of models: what is kept, who is champion, and what a kill or a rival leaves of it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from histoflow import models
from histoflow.comparing import compare_runs
from histoflow.data.store import read_manifest
from histoflow.engine import checkpoint
from histoflow.errors import CheckpointError, DataError, RunError, UserError
from histoflow.evaluation import fitting, predictions
from histoflow.models import Version, _locking
from histoflow.models._versions import hash_of_record
from histoflow.runs import Run
from histoflow.unused import find_unused
from registering import edit, trained, variant

NAMES = ("one", "two", "three", "four")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with runs that were evaluated, and no models."""
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        first = trained(NAMES[0])
        for name in NAMES[1:]:
            variant(first, name)
    return home


@pytest.fixture(autouse=True)
def home(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HISTOFLOW_HOME", str(evaluated))
    shutil.rmtree(evaluated / "models", ignore_errors=True)
    return evaluated


@pytest.fixture
def run(home: Path) -> Callable[[str], Run]:
    return lambda name: Run(home / "runs" / name)


@pytest.fixture
def three(run: Callable[[str], Run]) -> list[Version]:
    """Versions 1 to 3 of colon, each promoted."""
    versions = [models.register(run(name)) for name in NAMES[:3]]
    for version in versions:
        models.promote("colon", version.number, why="a test", by="tests")
    return versions


def stages_of(name: str = "colon") -> list[str]:
    return [version.stage for version in models.find_line(name).versions]


# ── What is kept ────────────────────────────────────────────────────────────────────────────────


def test_a_version_stands_by_itself_when_the_run_is_gone(run: Callable[[str], Run], home: Path) -> None:
    original = run("one")
    best, kept = checkpoint.find(original.checkpoints, "best"), predictions.load(original.folder)
    assert best is not None
    version = models.register(original, note="the first", warm_from="another@2")
    assert (best.folder / "weights.safetensors").stat().st_ino in {
        path.stat().st_ino for path in version.folder.rglob("*.safetensors")
    }, "weights are not stored twice"
    shutil.copytree(original.folder, home / "aside")
    shutil.rmtree(original.folder)
    try:
        models.verify(version)
        again = checkpoint.find(version.run.checkpoints, "best")
        assert again is not None
        assert again.model_hash == best.model_hash
        assert (predictions.load(version.folder).probabilities == kept.probabilities).all()
        assert fitting.load(version.folder) is not None
        assert read_manifest(version.folder).classes == version.record.classes
        assert compare_runs(version.run, version.run, draws=100).a.run == "colon@1"
    finally:
        shutil.move(home / "aside", original.folder)


def test_the_record_tells_where_a_version_comes_from(run: Callable[[str], Run]) -> None:
    of, metrics = run("one").read(), run("one").metrics()
    assert metrics is not None
    models.promote("colon", models.register(run("two")).number, why="", by="tests")
    record = models.register(run("one"), note="the first", warm_from="another@2").record
    assert (record.run, record.number, record.parent) == ("one", 2, 1)
    assert (record.note, record.warm_from, record.seed) == ("the first", "another@2", 7)
    assert (record.model, record.data_fingerprint) == (metrics["model"], of.data_fingerprint)
    assert (record.environment, record.plugins) == (of.environment, of.plugins)
    assert record.code_version == importlib.metadata.version("histoflow")
    told = metrics["scores"]["accuracy"]
    assert record.metrics["accuracy"].value == told["value"]
    assert list(record.metrics["accuracy"].interval or ()) == told["interval"]
    assert set(record.files) == {
        path.relative_to(models.find("colon@2").folder).as_posix()
        for path in models.find("colon@2").folder.rglob("*")
        if path.is_file() and not path.name.startswith("record.json")
    }


def test_the_same_model_is_the_same_version(run: Callable[[str], Run], home: Path) -> None:
    first = models.register(run("one"))
    assert models.register(run("one")) == first
    shutil.copytree(run("one").folder, home / "runs" / "copy")
    try:
        assert models.register(run("copy")) == first
    finally:
        shutil.rmtree(home / "runs" / "copy")
    assert models.register(run("two")).number == 2
    assert models.register(run("one"), "other").reference == "other@1"


@pytest.mark.parametrize(
    ("file", "changes"),
    [("fitted.json", {"temperature": 3.0}), ("run.json", {"data_fingerprint": "0" * 64})],
)
def test_other_answers_or_other_data_make_another_version(
    run: Callable[[str], Run], file: str, changes: dict[str, Any]
) -> None:
    first = models.register(run("one"))
    again = first.folder.with_name("again")  # as a run that was evaluated anew, or on other data
    shutil.copytree(first.folder, again)
    edit(again / file, **changes)
    second = models.register(Run(again))
    assert second.number == 2
    assert models.register(Run(again)) == second
    assert json.loads((second.folder / file).read_text()).items() >= changes.items()
    assert changes.keys() & json.loads((first.folder / file).read_text()).items() == set()


def test_a_number_that_a_change_names_is_never_given_again(
    three: list[Version], run: Callable[[str], Run]
) -> None:
    shutil.rmtree(three[2].folder)
    with pytest.raises(DataError, match="colon@3 is champion, but its folder is no longer in"):
        models.champion("colon")
    fourth = models.register(run("four"))
    assert (fourth.number, fourth.stage) == (4, "candidate")
    assert models.rollback("colon", why="its folder is gone", by="ada").replaced == 3
    assert stages_of() == ["archived", "champion", "candidate"]


def test_files_that_others_leave_among_the_versions_do_no_harm(run: Callable[[str], Run], home: Path) -> None:
    models.register(run("one"))
    models.promote("colon", 1, why="", by="ada")
    line = models.find_line("colon").folder
    places = (home / "models", line, line / "versions", line / "changes")
    for place in places:
        (place / ".DS_Store").write_text("x")
    models.promote("colon", models.register(run("two")).number, why="", by="ada")
    assert stages_of() == ["archived", "champion"]
    assert all((place / ".DS_Store").is_file() for place in places), "they are not ours to remove"


def test_registering_waits_for_a_process_that_hangs_no_longer_than_it_must(
    run: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = models.register(run("one")).line
    monkeypatch.setitem(_locking.PATIENCE, "registering", 0.05)
    with ThreadPoolExecutor(1) as other, _locking.alone(line, "registering"):
        waiting = other.submit(models.register, run("two"))
        with pytest.raises(RunError, match="'colon' has been held by another process for 0.05 s"):
            waiting.result()
    assert models.register(run("two")).number == 2


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("metrics.json", RunError, "has not been evaluated.*histoflow evaluate damaged"),
        ("fitted.json", RunError, "not those of its best model.*histoflow evaluate damaged"),
        ("predictions.npz", DataError, "There is no .*predictions.npz"),
        ("checkpoints/index.json", RunError, "has not been evaluated"),
        ("other weights", CheckpointError, "was changed after it was written"),
        ("figures of another model", RunError, "not those of its best model"),
    ],
)
def test_what_is_no_evaluated_run_is_no_version(
    run: Callable[[str], Run], home: Path, damage: str, error: type[Exception], message: str
) -> None:
    damaged = Run(home / "runs" / "damaged")
    shutil.copytree(run("one").folder, damaged.folder)
    try:
        if damage == "other weights":
            next(damaged.checkpoints.rglob("weights.safetensors")).write_bytes(b"other")
        elif damage == "figures of another model":
            shutil.copyfile(run("two").folder / "metrics.json", damaged.folder / "metrics.json")
        else:
            (damaged.folder / damage).unlink()
        with pytest.raises(error, match=message):
            models.register(damaged)
    finally:
        shutil.rmtree(damaged.folder)
    assert models.listing() == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../colon", r"The id of a model must be .* Got '\.\./colon'"),
        ("x" * 61, "at most 60 letters"),
        ("latest", "cannot be named 'latest', which is the name of the newest run"),
        ("two", "cannot be named 'two', which is the name of a run"),
    ],
)
def test_a_bad_name_is_refused(run: Callable[[str], Run], name: str, message: str) -> None:
    with pytest.raises(RunError, match=f"{message}.* Give the model another name: --name NAME"):
        models.register(run("one"), name)
    assert models.listing() == []


def test_a_changed_or_missing_file_is_named(run: Callable[[str], Run]) -> None:
    version = models.register(run("one"))
    path = version.folder / "predictions.npz"
    whole = path.read_bytes()
    for content, problem in ((whole[:-1] + b"x", "hash differs"), (whole[:-1], "size differs")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"predictions.npz of colon@1 was changed .*{problem}"):
            models.verify(version)
    path.unlink()
    with pytest.raises(DataError, match="predictions.npz of colon@1 is missing"):
        models.promote("colon", 1, why="", by="tests")
    assert stages_of() == ["candidate"]


def test_a_record_that_was_changed_is_refused(run: Callable[[str], Run]) -> None:
    version = models.register(run("one"))
    path = version.folder / "record.json"
    edit(path, seed=8)
    with pytest.raises(DataError, match="record.json of colon@1 was changed after it was registered"):
        models.verify(models.find("colon@1"))
    edit(path, files={})
    (path.with_name("record.json.sha256")).write_text(hash_of_record(version.folder))
    with pytest.raises(DataError, match="record.json of colon@1 does not name run.json, .*fitted.json"):
        models.verify(models.find("colon@1"))
    (path.with_name("record.json.sha256")).unlink()
    with pytest.raises(DataError, match="record.json.sha256 of colon@1 is missing"):
        models.promote("colon", 1, why="", by="tests")
    assert stages_of() == ["candidate"]


def test_versions_of_other_packings_are_compared_when_the_packed_data_are_gone(
    run: Callable[[str], Run], home: Path
) -> None:
    first = models.register(run("one"))
    again = first.folder.with_name("again")
    shutil.copytree(first.folder, again)
    edit(again / "run.json", data_fingerprint="0" * 64)
    edit(again / "manifest.json", fingerprint="0" * 64)
    second = models.register(Run(again))
    shutil.move(home / "data" / "packed", home / "aside")
    try:
        assert compare_runs(first.run, second.run, draws=100).verdict == "no difference shown"
    finally:
        shutil.move(home / "aside", home / "data" / "packed")


def test_a_folder_that_was_moved_is_refused(three: list[Version]) -> None:
    shutil.copytree(three[0].folder, three[0].folder.with_name("0007"))
    with pytest.raises(DataError, match="record.json is of colon@1, so colon@7 is not what"):
        models.verify(models.find("colon@7"))


def test_registered_versions_keep_no_packed_data(run: Callable[[str], Run], home: Path) -> None:
    models.register(run("one"))
    assert find_unused(0) == [], "the runs refer to them"
    shutil.move(home / "runs", home / "aside")
    try:
        assert len(find_unused(0)) == 1
    finally:
        shutil.rmtree(home / "runs")
        shutil.move(home / "aside", home / "runs")


# ── Who is champion ─────────────────────────────────────────────────────────────────────────────


def test_the_champion_is_promoted_and_the_former_one_archived(three: list[Version]) -> None:
    assert stages_of() == ["archived", "archived", "champion"]
    assert models.champion("colon") == three[2]
    assert models.champion("nobody") is None


def test_rollback_goes_back_one_champion_each_time(three: list[Version]) -> None:
    assert models.rollback("colon", why="it fails on slide 7", by="ada").version == 2
    assert models.rollback("colon", why="so does this", by="ada").replaced == 2
    assert stages_of() == ["champion", "archived", "archived"]
    with pytest.raises(UserError, match="no champion before colon@1 to go back to"):
        models.rollback("colon", why="", by="ada")
    models.promote("colon", 3, why="it was the slide", by="ada")
    assert models.rollback("colon", why="", by="ada").version == 1


def test_rollback_passes_over_what_was_rejected(three: list[Version]) -> None:
    models.reject("colon", 2, why="trained on leaked images", by="ada")
    assert models.rollback("colon", why="", by="ada").version == 1
    assert stages_of() == ["champion", "rejected", "archived"]


def test_rollback_passes_over_what_waits_for_a_person(three: list[Version]) -> None:
    models.reject("colon", 2, why="trained on leaked images", by="ada")
    models.hold("colon", 2, why="were they?", by="ada")
    assert models.rollback("colon", why="", by="ada").version == 1
    assert stages_of() == ["champion", "held", "archived"]


def test_rollback_to_a_version_that_lacks_a_file_is_refused(three: list[Version]) -> None:
    (three[1].folder / "fitted.json").unlink()
    with pytest.raises(DataError, match="fitted.json of colon@2 is missing"):
        models.rollback("colon", why="", by="ada")
    assert models.champion("colon") == three[2]


def test_rollback_takes_far_less_than_a_second(three: list[Version]) -> None:
    before = time.process_time()
    models.rollback("colon", why="", by="tests")
    assert time.process_time() - before < 0.5


def test_what_is_rejected_must_be_held_before_it_is_promoted(run: Callable[[str], Run]) -> None:
    models.register(run("one"))
    models.reject("colon", 1, why="worse", by="gate")
    with pytest.raises(
        UserError, match="must be candidate or held or archived. colon@1 is rejected.*colon@1 --anyway"
    ):
        models.promote("colon", 1, why="", by="ada")
    models.hold("colon", 1, why="look again", by="ada")
    assert stages_of() == ["held"]
    models.promote("colon", 1, why="it was the metric", by="ada")
    for refused in (models.hold, models.reject):
        with pytest.raises(UserError, match="is champion. Another one must take its place first"):
            refused("colon", 1, why="", by="ada")
    assert stages_of() == ["champion"]


def test_a_change_that_was_made_already_is_returned(three: list[Version]) -> None:
    made = models.find_line("colon").state.changes[-1]
    assert models.promote("colon", 3, why="a retried task", by="tests", over=2) == made
    assert len(models.find_line("colon").state.changes) == 3


def test_a_champion_other_than_the_one_that_was_beaten_is_not_replaced(
    three: list[Version], run: Callable[[str], Run]
) -> None:
    fourth = models.register(run("four"))
    for over, told in ((2, "version 2"), (0, "none")):
        with pytest.raises(RunError, match=f"compared with {told}: it is version 3 now"):
            models.promote("colon", fourth.number, why="", by="gate", over=over)
    models.promote("colon", fourth.number, why="", by="gate", over=3)
    assert models.champion("colon") == fourth


def test_the_change_record_tells_what_a_reader_must_know(run: Callable[[str], Run]) -> None:
    one, two = models.register(run("one")), models.register(run("two"))
    models.promote("colon", one.number, why="the | <first>\nof all", by="ada")
    change = models.promote("colon", two.number, why="better", by="retrain-flow", record="## Gate\n\nPassed.")
    assert change.path == one.line / "changes" / "0002-promote.md"
    text = change.path.read_text()
    assert text.startswith("# colon: version 2 became the champion\n\nbetter\n\n")
    for told in ("| By | retrain-flow |", "version 1, now archived", two.record.model):
        assert told in text
    figure = two.record.metrics["accuracy"]
    assert figure.interval is not None
    assert f"| accuracy | {figure.value:.3f} ({figure.interval[0]:.3f} to" in text
    assert "## Gate\n\nPassed.\n" in text
    assert "`histoflow rollback colon`" in text
    assert "\n\nthe \\| &lt;first&gt; of all\n\n" in (one.line / "changes" / "0001-promote.md").read_text()


# ── By which names ──────────────────────────────────────────────────────────────────────────────


def test_a_version_is_found_by_its_model_and_number(three: list[Version]) -> None:
    assert models.find("colon") == models.find("colon@champion") == three[2]
    assert models.find("colon@1") == three[0]
    assert [line.name for line in models.listing()] == ["colon"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("colom", "must be one of colon. Got 'colom'. Did you mean 'colon'?"),
        ("colon", "has no champion yet. Its versions are 1 (candidate). Name one, such as colon@1"),
        ("colon@2", "The version of model 'colon' must be one of 1 (candidate). Got 2."),
        ("colon@best", "named as colon, colon@champion or colon@3. Got 'colon@best'"),
    ],
)
def test_a_name_that_fits_nothing_is_told(run: Callable[[str], Run], reference: str, message: str) -> None:
    with pytest.raises(UserError, match="There is no model 'colon', nor any other yet"):
        models.find("colon")
    models.register(run("one"))
    with pytest.raises(UserError) as told:
        models.find(reference)
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"champion": 1}, "was changed by hand"),
        (lambda state: state | {"changes": state["changes"][:1]}, "was changed by hand"),
        (lambda state: state | {"changes": [{"what": "promote"}]}, "is damaged"),
        (lambda state: state | {"schema_version": 2}, "made by a newer histoflow"),
        (lambda state: [], "is damaged"),
    ],
)
def test_a_state_that_was_changed_by_hand_is_refused(
    three: list[Version], change: Callable[[Any], Any], message: str
) -> None:
    path = three[0].line / "state.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(RunError, match=message):
        models.champion("colon")


def test_a_lost_state_is_not_taken_for_a_new_model(three: list[Version], run: Callable[[str], Run]) -> None:
    path = three[0].line / "state.json"
    whole = path.read_bytes()
    path.unlink()
    calls: tuple[Callable[[], object], ...] = (
        lambda: models.champion("colon"),
        lambda: models.register(run("four")),
        lambda: models.promote("colon", 1, why="", by="ada", over=0),
    )
    for call in calls:
        with pytest.raises(RunError, match="state.json is missing.*histoflow models colon --restore"):
            call()
    assert models.restore("colon").champion == 3
    assert path.read_bytes() == whole
    with pytest.raises(UserError, match="is there, so nothing is to be restored"):
        models.restore("colon")


def test_a_state_is_not_restored_from_some_of_its_changes(three: list[Version]) -> None:
    line = three[0].line
    (line / "state.json").unlink()
    (line / "changes" / "0002-promote.json").unlink()
    with pytest.raises(RunError, match=r"0002-\*\.json is missing or damaged"):
        models.restore("colon")
    assert not (line / "state.json").exists()


# ── Several processes, and kills ────────────────────────────────────────────────────────────────

_PROCESSES = """
import json, os, pathlib, shutil, signal, sys, traceback
from histoflow import evaluating, home, models
from histoflow.engine import model_only
from histoflow.evaluation import fitting, predictions
from histoflow.runs import Run

RUNS, MODELS = home.runs(), home.models()

def fork(act):
    child = os.fork()
    if child:
        return child
    try:
        act()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

def together(acts):
    "All at once; returns the exit codes."
    begin, gun = os.pipe()
    def after_the_gun(act):
        os.close(gun)
        os.read(begin, 1)
        act()
    children = [fork(lambda act=act: after_the_gun(act)) for act in acts]
    os.close(gun)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

def writes(event, arguments):
    if event == "open":
        path, _, flags = arguments
        return str(path).startswith(str(MODELS)) and flags & (os.O_WRONLY | os.O_RDWR)
    named = event in ("os.rename", "os.link", "os.mkdir", "os.remove", "os.chmod", "shutil.rmtree")
    return named and any(str(argument).startswith(str(MODELS)) for argument in arguments)

def kind(event, arguments):
    "Of renames, which name is taken; of all others it is enough to be killed before the last one."
    return event, pathlib.Path(str(arguments[1])).name if event == "os.rename" else ""

def watched(act, at_write):
    "Act in a process of its own that calls this with the kind of each write before it happens."
    def acting():
        def hook(event, arguments):
            if writes(event, arguments):
                at_write(kind(event, arguments))
        sys.addaudithook(hook)
        act()
    return os.waitstatus_to_exitcode(os.waitpid(fork(acting), 0)[1])

def last_of_each_kind(act):
    "At which write, and its kind."
    told, tell = os.pipe()
    assert watched(act, lambda kind: os.write(tell, json.dumps(kind).encode() + b"\\n")) == 0
    os.close(tell)
    with open(told) as lines:
        last = {tuple(json.loads(line)): step for step, line in enumerate(lines)}
    return sorted((step, kind) for kind, step in last.items())

def killed_before(step, act):
    left = [step]
    def at_write(kind):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
    assert watched(act, at_write) == -signal.SIGKILL

def seen():
    "All that a reader sees of colon; every file of it is checked."
    if not models.listing():
        return {"versions": [], "changes": [], "champion": None}
    line = models.find_line("colon")
    for version in line.versions:
        models.verify(version)
    for change in line.state.changes:
        assert change.path.read_text().endswith("what happened to them.\\n"), change.path
    return {
        "versions": [version.number for version in line.versions],
        "changes": [change.version for change in line.state.changes],
        "champion": line.state.champion,
    }

def hidden():
    return [str(path) for path in MODELS.rglob(".*") if path.suffix != ".lock"]

def register(name):
    return models.register(Run(RUNS / name))

def promote(number):
    models.promote("colon", number, why="", by="a process")

def at_every_kind_of_write(act):
    "What is seen after a kill before the last write of each kind, and once it was done again."
    aside, found = MODELS.with_name("aside"), []
    shutil.copytree(MODELS, aside)
    for step, kind in last_of_each_kind(act):
        shutil.rmtree(MODELS)
        shutil.copytree(aside, MODELS)
        killed_before(step, act)
        killed = seen()
        act()
        found.append({"kind": kind, "killed": killed, "again": seen(), "hidden": hidden()})
    shutil.rmtree(aside)
    return found

told = {}
names = ("one", "two", "three", "four")
def register_and_promote(name):
    for _ in range(2):
        promote(register(name).number)
told["codes"] = together([lambda name=name: register_and_promote(name) for name in names])
told["together"], told["hidden"] = seen(), hidden()
shutil.rmtree(MODELS)
MODELS.mkdir()
told["register"] = at_every_kind_of_write(lambda: register("one"))
promote(1)
register("two")
told["promote"] = at_every_kind_of_write(lambda: promote(2))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(evaluated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What processes found that worked at once, or were killed."""
    home = tmp_path_factory.mktemp("processes")
    shutil.copytree(evaluated / "runs", home / "runs")
    done = subprocess.run(
        [sys.executable, "-c", _PROCESSES],
        env=os.environ | {"HISTOFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_processes_that_register_and_promote_at_once_lose_nothing(told: dict[str, Any]) -> None:
    assert told["codes"] == [0] * len(NAMES)
    found = told["together"]
    assert found["versions"] == [1, 2, 3, 4]
    assert set(found["changes"]) == {1, 2, 3, 4}
    assert found["champion"] == found["changes"][-1]
    assert told["hidden"] == []


@pytest.mark.parametrize(
    ("what", "lasting", "decides", "old", "new"),
    [
        (
            "register",
            {"state.json", "record.json", "record.json.sha256"},
            "0001",
            {"versions": [], "changes": [], "champion": None},
            {"versions": [1], "changes": [], "champion": None},
        ),
        (
            "promote",
            {"0002-promote.md", "0002-promote.json"},
            "state.json",
            {"versions": [1, 2], "changes": [1], "champion": 1},
            {"versions": [1, 2], "changes": [1, 2], "champion": 2},
        ),
    ],
)
def test_a_kill_before_any_kind_of_write_leaves_the_old_or_the_new(
    told: dict[str, Any], what: str, lasting: set[str], decides: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    found = told[what]
    kinds = [one["kind"] for one in found]
    last = kinds.index(["os.rename", decides])
    renamed = {name for event, name in kinds[:last] if event == "os.rename"}
    assert renamed >= lasting, "each of these takes its name in one step, with a kill before it"
    assert all(one["killed"] == old for one in found[: last + 1])
    assert all(one["killed"] == new for one in found[last + 1 :])
    assert all(one["again"] == new for one in found), "and it can be done again"
    assert all(one["hidden"] == [] for one in found), "which clears up"
