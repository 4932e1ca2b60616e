"""Challengers against champions: what they are compared on, what is decided, what is written down."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from histoflow import models, stages
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.errors import DataError, UserError
from histoflow.evaluating import store_of
from histoflow.evaluation import predictions
from histoflow.experiment import Experiment
from histoflow.registry import installed
from histoflow.retraining import (
    challenge,
    data_changes,
    deciding,
    gate,
    judging,
    settled_record,
    starting,
    verdict_record,
)
from histoflow.retraining.gate import Gate
from histoflow.retraining.verdict_record import Judged
from histoflow.runs import Run
from histoflow.stages import RawData
from registering import edit
from support import small_experiment

PATCHES = Path("patches.csv")
SPLIT = {"val": 0.2, "test": 0.4}


def draw(folder: Path, classes: Sequence[str] = ("normal", "tumour"), side: int = 16) -> Path:
    """Patches of 24 slides that are not dealt out yet, four of each, and a table of them."""
    generator = np.random.default_rng(0)
    lines = ["path,label,group"]
    for index in range(96):
        label = index % len(classes)
        noise = generator.integers(0, 150, (side, side, 3)) + 50 * label
        name = f"{index}.png"
        Image.fromarray(noise.astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{classes[label]},slide {index // 4}")
    (folder / PATCHES).write_text("\n".join(lines))
    return folder / PATCHES


def experiment(here: Path, **changes: Any) -> Experiment:
    quick: dict[str, Any] = {
        "dataset": {"name": "table", "path": str(here / PATCHES)},
        "split": SPLIT,
        "augment": [],
        "evaluation": {"gallery": 0, "embedding": False},
        "optimizer": {"name": "adam", "lr": 0.01},
        "training": {"epochs": 2, "batch_size": 32},
        "reports": [],
        "metrics": ["accuracy"],
    }
    return small_experiment(**{**quick, **changes})


def of_old(here: Path, **changes: Any) -> Experiment:
    steps = [{"name": "resize", "size": 12}, {"name": "resize", "size": 16}]
    return experiment(here, **{"preprocess": steps, **changes})


def of_new(here: Path) -> Experiment:
    """Preprocessed otherwise, and dealt out by another seed: its test split has slides that the old one knows."""
    return experiment(here, seed=8, split=SPLIT | {"seed": 1})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    draw(folder)
    return folder


@pytest.fixture
def here(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which tests find the runs that others trained; each test names a model of its own."""
    monkeypatch.setenv("HISTOFLOW_HOME", str(shared / "home"))
    return shared


def fetched(asked: Experiment) -> RawData:
    return stages.fetch(asked)


def trained(asked: Experiment, run_id: str, warm_from: str = "") -> Run:
    """Trained and evaluated, once for all tests."""
    run = stages.start(asked, run_id)
    packed = stages.preprocess(asked, fetched(asked))
    stages.hold_data(run, packed)
    if warm_from:
        starting.warm_start(run, warm_from, packed, fetched(asked))
    stages.train(asked, packed, run)
    stages.evaluate(run, again=False)
    return run


def begin_warm(asked: Experiment, run_id: str, name: str) -> None:
    raw = fetched(asked)
    starting.warm_start(stages.start(asked, run_id), name, stages.pack(asked, raw), raw)


@contextmanager
def without_data(run: Run) -> Iterator[None]:
    folder = Path(run.read().packed or "")
    aside = folder.with_name("aside")
    folder.rename(aside)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def fewer(here: Path) -> dict[str, str]:
    table = here / "fewer.csv"
    table.write_text("\n".join((here / PATCHES).read_text().splitlines()[:-2]))
    return {"name": "table", "path": str(table)}


def moved(here: Path) -> dict[str, str]:
    """A table in which each patch is of another slide than it was."""
    table = here / "moved.csv"
    table.write_text((here / PATCHES).read_text().replace("slide ", "block "))
    return {"name": "table", "path": str(table)}


@pytest.fixture
def old(here: Path) -> Run:
    return trained(of_old(here), "old")


@pytest.fixture
def new(here: Path) -> Iterator[Run]:
    """Which nobody has judged yet."""
    run = trained(of_new(here), "new")
    openings, asked_for = run.openings(), run.read().experiment
    yield run
    run.update(experiment=asked_for)
    for name in (verdict_record.FILE, challenge.CHAMPION, deciding.FILE, settled_record.FILE):
        (run.folder / name).unlink(missing_ok=True)
    (run.folder / "openings.json").unlink()
    for opening in openings:
        run.record_opening(opening["reason"], opening["model"])


def champion(run: Run, name: str) -> models.Version:
    version = models.register(run, name)
    models.promote(name, version.number, why="the first", by="a test")
    return version


def judged(run: Run, name: str, **settings: Any) -> Judged:
    return judging.judge(run, name, Gate(**settings), fetched(stages.experiment_of(run)))


def test_the_first_is_promoted_and_after_it_nothing_is_new(old: Run) -> None:
    found = judged(old, "first")
    assert found.verdict.why == "There was no champion to compare with."
    version, changed = deciding.carry_out(old, found, by="a test")
    assert (version.stage, changed) == ("champion", True)
    assert "## Data" in deciding.written(old)
    asked = stages.experiment_of(old)
    raw = fetched(asked)
    assert "first@1 (champion)" in judging.nothing_new("first", asked, raw)
    looks = asked.model_copy(update={"name": "other"})
    assert judging.nothing_new("first", looks, raw), "the model would be the same"
    assert not judging.nothing_new("first", asked.model_copy(update={"seed": 9}), raw)
    assert not judging.nothing_new("second", asked, raw)
    assert judged(trained(asked, "again"), "first").verdict.why == "It is the champion's model, bit for bit."


def test_what_the_champion_was_trained_on_takes_no_part_and_the_opening_is_on_record(
    old: Run, new: Run
) -> None:
    champion(old, "known")
    found = judged(new, "known")
    stores = [PackedStore(Path(run.read().packed or "")) for run in (old, new)]
    seen = {str(slide) for name in ("train", "val") for slide in stores[0].split(name).groups}  # type: ignore[arg-type, union-attr]
    test = stores[1].unseal_test()
    assert test.groups is not None
    free = [source for source, slide in zip(test.sources, test.groups, strict=True) if slide not in seen]
    theirs, ours = challenge.kept(new)
    assert theirs.sources is not None
    assert theirs.sources.tolist() == ours.sources.tolist() == free  # type: ignore[union-attr]
    assert 0 < len(free) < len(test)
    assert f"{len(test) - len(free)} of {len(test)} test images take no part" in found.notes[0]
    assert new.openings()[-1]["reason"] == "champion known@1 against run new"
    assert new.openings()[-1]["of"] == "known@1"


def test_the_champion_sees_the_images_as_it_was_trained_to(old: Run, new: Run, here: Path) -> None:
    """Its own chain of preprocessing, mean and deviation: it says what it said of the same images before."""
    champion(old, "own")
    judged(new, "own")
    theirs, _ = challenge.kept(new)
    before = predictions.load(old.folder)
    assert before.sources is not None
    assert theirs.sources is not None
    place = {source: at for at, source in enumerate(before.sources)}
    assert set(theirs.sources) <= set(place)
    expected = before.probabilities[[place[source] for source in theirs.sources]]
    np.testing.assert_allclose(theirs.probabilities, expected, atol=1e-5)


def test_every_figure_of_the_verdict_follows_from_what_was_kept(old: Run, new: Run) -> None:
    with of_temperature(old, 0.6), of_temperature(new, 1.7):
        version = champion(old, "figures")
        found = judged(new, "figures", metric="brier")
    theirs, ours = challenge.kept(new)
    pair = tempered(theirs, 0.6), tempered(ours, 1.7)
    metrics, main = judging.metrics_of(stages.experiment_of(new), found.gate, installed())
    again = gate.compared(*pair, metrics=metrics, main=main)
    told, difference = found.figures["brier"], again.metrics["brier"]
    assert (told["a"], told["b"], told["low"]) == pytest.approx((difference.a, difference.b, difference.low))
    weighed = gate.weigh(*pair, again, version.record.classes, found.gate, None)
    assert [one.words for one in weighed.checks[:-1]] == [one.words for one in found.verdict.checks[:-1]]


@contextmanager
def of_temperature(run: Run, temperature: float) -> Iterator[None]:
    """As if it had been fitted to the run's model."""
    path = run.folder / "fitted.json"
    fitted = path.read_bytes()
    edit(path, temperature=temperature)
    try:
        yield
    finally:
        path.write_bytes(fitted)


def tempered(said: predictions.Predictions, temperature: float) -> predictions.Predictions:
    """As a softmax of the logarithms would have it."""
    raised = said.probabilities ** (1 / temperature)
    return replace(said, probabilities=raised / raised.sum(axis=1, keepdims=True))


def test_the_slower_of_two_is_measured_to_be_so(old: Run) -> None:
    one = challenge._contender(old, stages.experiment_of(old), None, store_of(old), installed(), "cpu")
    pace = challenge._pace(one, replace(one, model=Dawdling(one.model)))
    images = min(len(one.store.split("val")), one.workshop.batch_size)
    assert pace.challenger - pace.champion == pytest.approx(1000 * Dawdling.SECONDS / images, rel=0.8)


class Dawdling(nn.Module):
    """A network that takes its time for each batch."""

    SECONDS = 0.05

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.SECONDS)
        found: Tensor = self.network(images)
        return found


def test_what_was_judged_stays_so_and_each_decision_is_carried_out_once(old: Run, new: Run) -> None:
    champion(old, "once")
    first = judged(new, "once")
    assert first.verdict.decision == "hold"
    opened = len(new.openings())
    assert judged(new, "once", margin=0.5) == first
    assert len(new.openings()) == opened
    assert deciding.carry_out(new, first, by="the gate").changed
    assert not deciding.carry_out(new, first, by="the gate").changed
    assert deciding.settle(new, first, "promote", "it is fine", "Ada").version.stage == "champion"
    assert "it is fine" in deciding.written(new)
    assert "histoflow rollback once" in deciding.written(new)
    late = deciding.settle(new, first, "reject", "too late", "Bob")
    assert (late.version.stage, late.changed) == ("champion", False)


def test_what_a_person_decided_stands_in_the_model_card_and_never_depends_on_it(
    old: Run, new: Run, caplog: pytest.LogCaptureFixture
) -> None:
    champion(old, "person")
    found = judged(new, "person")
    new.update(experiment={**new.read().experiment, "reports": [{"name": "model_card"}]})
    stages.report(new)
    card = new.folder / "MODEL_CARD.md"
    assert "hold for a person" in card.read_text()
    version, _ = deciding.carry_out(new, found, by="the gate")
    assert settled_record.read(new.folder) is None, "that is what the gate said"
    deciding.settle(new, found, "promote", "it is fine", "Ada")
    assert f"- {version.reference} was promoted by Ada" in card.read_text()
    models.rollback("person", why="it fails", by="Bob")
    card.unlink()
    card.mkdir()
    change = models.reject("person", version.number, why="its misses are of one hospital", by="Bob")
    with caplog.at_level("INFO"):
        deciding.tell_run(version, change)
    card.rmdir()
    assert f"The report of run {new.id} could not be written anew" in caplog.text
    settled = settled_record.read(new.folder)
    assert settled is not None
    assert (settled.what, settled.by) == ("reject", "Bob")
    assert "its misses are of one hospital" in deciding.written(new)
    deciding.tell_run(version, change)
    assert "was rejected by Bob" in card.read_text()


def test_a_champion_that_changed_in_the_meantime_was_not_the_one_compared_with(old: Run, new: Run) -> None:
    found = judged(new, "raced")
    assert found.champion is None
    champion(old, "raced")
    version, _ = deciding.carry_out(new, found, by="the gate")
    assert version.stage == "held"
    assert "changed while" in deciding.written(new)
    assert "raced@1 has become champion since" in deciding.written(new)


def test_a_champion_of_other_classes_cannot_be_asked_and_a_person_decides(old: Run, here: Path) -> None:
    champion(old, "classes")
    (here / "three").mkdir()
    three = experiment(
        here, dataset={"name": "table", "path": str(draw(here / "three", ("normal", "stroma", "tumour")))}
    )
    run = trained(three, "three")
    found = judged(run, "classes")
    assert found.verdict.decision == "hold"
    assert "its classes are normal, tumour, and theirs are normal, stroma, tumour" in found.verdict.why
    with pytest.raises(UserError, match="as they were for it: classes"):
        begin_warm(three, "warm-3", "classes")


def test_a_champion_of_images_of_another_size_cannot_be_asked(old: Run, new: Run, here: Path) -> None:
    version = champion(new, "size")
    (here / "small").mkdir()
    small = experiment(here, dataset={"name": "table", "path": str(draw(here / "small", side=12))})
    openings = old.openings()
    told = "its images are 16×16 pixels of 3 channels, and theirs are 12×12 pixels of 3 channels"
    with pytest.raises(DataError, match=f"{version.reference} cannot be asked about these data: {told}"):
        challenge.meet(old, version, small, fetched(small), installed())
    assert old.openings() == openings, "nobody has looked at a test split"


def test_without_the_champions_data_another_split_is_refused(old: Run, new: Run) -> None:
    version = champion(old, "gone")
    with without_data(old):
        found = judged(new, "gone")
    assert found.verdict.decision == "hold"
    assert f"must be one that {version.reference} was not trained on" in found.verdict.why


def test_a_warm_start_begins_with_the_champions_weights_and_the_run_says_so(old: Run, here: Path) -> None:
    champion(old, "warm")
    still = of_old(here, optimizer={"name": "sgd", "lr": 1e-12}, seed=9)
    run = trained(still, "warm", warm_from="warm")
    assert run.read().warm_from == "warm@1"
    saved = [checkpoint.find(one.checkpoints, "best") for one in (old, run)]
    from safetensors.torch import load_file

    theirs, ours = (load_file(one.folder / "weights.safetensors") for one in saved if one)
    name = next(name for name in theirs if name.endswith("weight"))
    np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6)
    run.update(warm_from=None)  # as if it was killed between the two
    begin_warm(still, "warm", "warm")
    assert run.read().warm_from == "warm@1"
    version, _ = deciding.carry_out(run, judged(run, "warm"), by="a test")
    assert version.record.warm_from == "warm@1"


@pytest.fixture
def official(here: Path) -> Experiment:
    """The same images, and the table deals them out: other slides are in test than by the hash."""
    lines = (here / PATCHES).read_text().splitlines()
    splits = ["split", *("val" if row < 8 else "test" if row < 24 else "train" for row in range(96))]
    table = here / "official.csv"
    table.write_text("\n".join(f"{line},{split}" for line, split in zip(lines, splits, strict=True)))
    return of_old(here, dataset={"name": "table", "path": str(table)})


def test_what_the_champion_began_from_has_learned_counts_as_well(
    old: Run, new: Run, here: Path, official: Experiment
) -> None:
    founder = champion(trained(official, "founder-run"), "founder")
    heir = models.register(old, "heir", warm_from=founder.reference)
    models.promote("heir", heir.number, why="the first", by="a test")
    still = of_old(here, seed=9)
    with pytest.raises(DataError, match=r"founder@1 has learned \d+ of \d+ test images and \d+ of"):
        begin_warm(still, "begin-1", "heir")
    assert not Run(here / "home" / "runs" / "begin-1").start.exists()
    notes = judged(new, "heir").notes
    assert [
        f"{who} was trained on them" in note
        for who, note in zip(("heir@1", "founder@1"), notes, strict=False)
    ]
    learned = PackedStore(Path(founder.run.read().packed or ""))
    sources = challenge.kept(new)[0].sources
    assert sources is not None
    assert not any(np.isin(sources, learned.split(part).sources).any() for part in ("train", "val"))


def test_a_champion_whose_data_are_gone_is_begun_from_only_where_splits_are_stable(
    old: Run, here: Path, official: Experiment
) -> None:
    champion(old, "stable")
    champion(trained(official, "founder-run"), "official")
    with without_data(old):
        begin_warm(of_old(here, seed=10, dataset=fewer(here)), "begin-2", "stable")
        assert Run(here / "home" / "runs" / "begin-2").read().warm_from == "stable@1"
        with pytest.raises(DataError, match="its test images are not all in the test split"):
            begin_warm(of_old(here, seed=10, dataset=moved(here)), "begin-3", "stable")
    with (
        without_data(Run(here / "home" / "runs" / "founder-run")),
        pytest.raises(DataError, match="come with them"),
    ):
        begin_warm(experiment(here, dataset=official.dataset.model_dump()), "begin-4", "official")


def test_the_weights_of_a_version_that_was_decided_about_change_nothing(old: Run, here: Path) -> None:
    version = models.register(old, "decided")
    models.reject("decided", version.number, why="its misses are of one hospital", by="Ada")
    again = trained(stages.experiment_of(old), "again")
    (again.folder / verdict_record.FILE).unlink(missing_ok=True)
    found = judged(again, "decided")
    assert (found.verdict.decision, found.same_as) == ("reject", 1)
    assert found.verdict.why.startswith("It is decided@1, bit for bit, about which was decided before")
    (again.folder / verdict_record.FILE).unlink()
    assert deciding.carry_out(again, found, by="the gate") == (version, False)
    assert deciding.written(again).startswith("# decided@1: nothing was changed")
    assert "its misses are of one hospital" in deciding.written(again)


def test_a_record_that_a_killed_process_did_not_write_is_written_from_the_registrys(
    old: Run, new: Run
) -> None:
    champion(old, "killed")
    found = judged(new, "killed")
    deciding.carry_out(new, found, by="the gate")
    record = deciding.written(new)
    (new.folder / deciding.FILE).unlink()
    assert not deciding.carry_out(new, found, by="the gate").changed
    assert deciding.written(new) == record


def test_a_held_version_keeps_what_the_gate_found_of_it_and_this_champion(old: Run, new: Run) -> None:
    first = champion(old, "kept")
    found = judged(new, "kept")
    version, _ = deciding.carry_out(new, found, by="the gate")
    assert {verdict_record.FILE, challenge.CHAMPION} <= set(version.record.files)
    assert judging.kept_verdict(version, first) == found.verdict
    other = champion(old, "other")
    assert judging.kept_verdict(version, other) is None


def test_what_is_new_is_told_beside_the_champions_data(old: Run, here: Path) -> None:
    version = champion(old, "data")
    packed = stages.pack(of_old(here), fetched(of_old(here))).folder
    assert data_changes.beside(version, packed) == "The data are those of data@1."
    asked = of_old(here, dataset=fewer(here))
    told = data_changes.beside(version, stages.pack(asked, fetched(asked)).folder)
    assert "0 images came and 2 went, by their pixels; " in told
    asked = asked.model_copy(update={"preprocess": experiment(here).preprocess})
    assert "2 went, by their names" in data_changes.beside(version, stages.pack(asked, fetched(asked)).folder)


def test_a_champion_that_fails_on_these_images_is_no_fault_of_the_challenger(
    old: Run, new: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion(old, "fails")
    kept = challenge.calibrated

    def not_numbers(said: predictions.Predictions, run: Run) -> predictions.Predictions:
        if run.id == new.id:
            return kept(said, run)
        return replace(said, probabilities=np.full_like(said.probabilities, np.nan))

    monkeypatch.setattr(challenge, "calibrated", not_numbers)
    found = judged(new, "fails")
    assert (found.verdict.decision, found.images) == ("hold", None)
    assert [check.name for check in found.verdict.checks] == ["comparison"]


def test_images_that_only_one_of_them_predicted_are_counted() -> None:
    def said(*names: str) -> predictions.Predictions:
        ones = np.full((len(names), 2), 0.5)
        return predictions.Predictions(
            probabilities=ones, labels=np.zeros(len(names), np.int64), sources=np.array(names)
        )

    theirs, ours, notes = challenge.matched(said("c", "a", "x"), said("b", "c", "a"))
    assert theirs.sources is not None
    assert ours.sources is not None
    assert theirs.sources.tolist() == ours.sources.tolist() == ["c", "a"]
    assert [note.split(" take")[0] for note in notes] == [
        "1 test images of the champion",
        "1 test images of the challenger",
    ]
    with pytest.raises(DataError, match="There is no test image"):
        challenge.matched(said("x"), said("y"))


def test_what_would_fail_after_training_is_refused_before_it(here: Path) -> None:
    with pytest.raises(UserError, match=r"training\.folds must be null for a retraining"):
        judging.refuse_early("colon", experiment(here, training={"folds": 5}), Gate())
    with pytest.raises(
        UserError, match=r"The gate's metric must be one for .* data: accuracy.* Got exact_match"
    ):
        judging.refuse_early("colon", of_old(here), Gate(metric="exact_match"))
