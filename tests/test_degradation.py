"""The table of degradation: from stored predictions to every figure, and from a trained run to the file."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from histoflow import DataError, registry, seeds, stages
from histoflow.components import Metric
from histoflow.evaluation import degraded, predictions
from histoflow.evaluation.comparison import compare
from histoflow.evaluation.degraded import Degraded, worst_in_words
from histoflow.robustness import degradation
from support import small_experiment, trained

SEED = seeds.derive(7, seeds.Stream.SHIFTS)


def metrics_named(*names):
    found = {name: registry.installed().get(Metric, name) for name in names}
    return {name: (metric, metric.params()) for name, metric in found.items()}


METRICS = metrics_named("accuracy", "roc_auc")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory):
    """A run that was evaluated with fewer images than the test split has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("home")))
        experiment = small_experiment(
            training={"epochs": 1, "batch_size": 32},
            evaluation={"robustness": True, "robustness_images": 20, "embedding": False, "gallery": 0},
        )
        run = trained(experiment, "robust")
        stages.evaluate(run, "test")
    return run


def test_every_figure_of_the_section_follows_from_what_was_kept(evaluated):
    told = json.loads((evaluated.folder / "metrics.json").read_text())["robustness"]
    assert degraded.from_file(evaluated.folder, METRICS, SEED) == told
    kept = degraded.load(evaluated.folder)
    assert kept.changed.shape == (15, *kept.clean.shape)
    for index, one in enumerate(told["conditions"]):
        right = (kept.changed[index].argmax(axis=1) == kept.labels).mean()
        clean = (kept.clean.argmax(axis=1) == kept.labels).mean()
        assert one["scores"]["accuracy"] == pytest.approx(right)
        assert one["difference"]["value"] == pytest.approx(right - clean)


def test_it_is_of_a_part_of_the_test_images_which_it_tells(evaluated):
    kept, test = degraded.load(evaluated.folder), predictions.load(evaluated.folder)
    told = json.loads((evaluated.folder / "metrics.json").read_text())["robustness"]
    assert (told["images"], told["of"]) == (20, len(test.labels))
    assert len(test.labels) > 20
    assert np.array_equal(kept.clean, test.probabilities[kept.places])
    assert np.array_equal(kept.labels, test.labels[kept.places])
    assert np.array_equal(kept.groups, test.groups[kept.places])


def test_another_look_finds_the_same(evaluated):
    before = degraded.load(evaluated.folder)
    stages.evaluate(evaluated, "again")
    after = degraded.load(evaluated.folder)
    assert np.array_equal(before.changed, after.changed)
    assert not np.array_equal(after.changed[0], after.clean)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "is damaged"),
        (lambda path: np.savez(path, labels=np.zeros(3)), "is damaged.*it lacks changed"),
        (lambda path: path.unlink(), "evaluation.robustness=true"),
    ],
    ids=["cut", "other", "gone"],
)
def test_a_damaged_file_is_refused(tmp_path, harm: Callable, message):
    degraded.save(tmp_path, example())
    assert np.array_equal(degraded.load(tmp_path).changed, example().changed)
    harm(tmp_path / degraded.FILE)
    with pytest.raises(DataError, match=message):
        degraded.load(tmp_path)


def test_a_file_of_fewer_conditions_than_it_names_is_refused(tmp_path):
    degraded.save(tmp_path, Degraded(**(vars(example()) | {"changed": example().changed[:1]})))
    with pytest.raises(DataError, match="must hold 2 × 60 × 2 probabilities"):
        degraded.load(tmp_path)


# ── From predictions made up ────────────────────────────────────────────────────────────────────


def example(groups=None):
    """Nearly right on the clean images, little worse under the first condition, guessing under the second."""
    chance = np.random.default_rng(0)
    labels = np.arange(60) % 2
    rows = [np.where(labels == 1, 0.7, 0.3) + chance.normal(0, spread, 60) for spread in (0.1, 0.25, 9)]
    clean, mild, strong = (np.stack([1 - p, p], axis=1) for p in np.clip(rows, 0.01, 0.99))
    return Degraded(
        labels=labels,
        places=np.arange(60),
        of=np.array(200),
        clean=clean,
        changed=np.stack([mild, strong]),
        kinds=np.array(["blur", "blur"]),
        grades=np.array(["mild", "strong"]),
        strengths=np.array(["a Gaussian of 0.5 px", "a Gaussian of 2 px"]),
        groups=groups,
    )


@pytest.mark.parametrize("groups", [None, np.array([f"slide {index // 5}" for index in range(60)])])
def test_the_difference_is_that_of_a_paired_comparison(groups):
    found = degraded.section(example(groups), METRICS, seed=3)
    assert found["by"] == ("image" if groups is None else "group")
    for one, probabilities in zip(found["conditions"], example().changed, strict=True):
        expected = compare(
            example().clean,
            probabilities,
            example().labels,
            metrics=metrics_named("accuracy"),
            main="accuracy",
            groups=groups,
            seed=3,
        ).metrics["accuracy"]
        assert one["difference"]["low"] == expected.low
        assert one["difference"]["high"] == expected.high
    strong = found["conditions"][1]["difference"]
    assert strong["low"] < strong["value"] < strong["high"] < 0


def test_the_worst_is_told_in_words():
    found = degraded.section(example(), METRICS, seed=3)
    assert found["worst"].startswith("The worst is strong blur (a Gaussian of 2 px): accuracy 0.")
    by_loss = degraded.section(example(), metrics_named("log_loss"), seed=3)
    assert "strong blur" in by_loss["worst"]
    assert "which is +" in by_loss["worst"]


def test_where_nothing_is_worse_that_is_said():
    better = [{"difference": {"value": 0.0}}, {"difference": {"value": 0.1}}]
    assert "Under none of the conditions is roc auc worse" in worst_in_words(
        better, "roc_auc", higher_is_better=True
    )
    unknown = [{"difference": {"value": None}}]
    assert "can roc auc be compared" in worst_in_words(unknown, "roc_auc", higher_is_better=True)


def test_a_figure_that_is_undefined_comes_with_the_reason():
    one_class = Degraded(**(vars(example()) | {"labels": np.zeros(60, np.int64)}))
    found = degraded.section(one_class, metrics_named("roc_auc"), seed=3)
    assert found["clean"]["scores"] == {"roc_auc": None}
    assert found["clean"]["undefined"]["roc_auc"]
    assert found["conditions"][0]["difference"]["value"] is None
    assert found["conditions"][0]["difference"]["note"]


# ── Which images, and what is drawn for them ────────────────────────────────────────────────────


def test_a_part_holds_of_each_class_its_share():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = degradation.in_strata(labels, seed=5)
    chosen = degradation.spread(order, 100)
    assert np.bincount(labels[chosen]).tolist() == [60, 30, 10]
    assert len(np.unique(chosen)) == 100
    assert np.array_equal(np.sort(degradation.spread(order, 5000)), np.arange(1000))
    assert not np.array_equal(order, degradation.in_strata(labels, seed=6))


def test_half_of_each_class_is_shifted_either_way():
    labels = np.arange(100) % 2  # every second place is of one class
    directions = degradation.alternating(degradation.in_strata(labels, seed=5), 100)
    assert sorted(np.unique(directions)) == [-1, 1]
    assert directions[labels == 0].sum() == directions[labels == 1].sum() == 0


@pytest.mark.parametrize("images", [200, 400, 401])
def test_half_of_each_class_is_shifted_either_way_of_a_part_as_well(images):
    """Twice and four times as many as are taken: those of every second place would all go one way."""
    labels = np.random.default_rng(0).integers(0, 2, images)
    chosen = degradation.spread(degradation.in_strata(labels, seed=5), 100)
    directions = degradation.alternating(chosen, images)
    for kind in (0, 1):
        assert abs(directions[chosen[labels[chosen] == kind]].sum()) <= 1


def test_several_labels_are_dealt_by_their_combination():
    labels = np.array([[0, 1], [1, 0], [0, 1], [1, 0]] * 5)
    chosen = degradation.spread(degradation.in_strata(labels, seed=5), 10)
    assert labels[chosen].sum(axis=0).tolist() == [5, 5]


def test_what_is_drawn_for_an_image_does_not_depend_on_its_batch():
    directions = np.ones(9, np.float32)
    together = degradation.chance_for(np.arange(9), directions, (9, 3, 8, 8), seed=1)
    alone = degradation.chance_for(np.array([4]), directions, (1, 3, 8, 8), seed=1)
    assert (together.noise[4] == alone.noise[0]).all()
    assert not (together.noise[3] == together.noise[4]).any()
    assert together.noise.std() == pytest.approx(1, abs=0.1)
