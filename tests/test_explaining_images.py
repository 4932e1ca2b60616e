"""What an evaluation keeps of single images: examples with overlays, and a map of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from histoflow import stages
from histoflow.components import SPLITS
from histoflow.engine import checkpoint
from histoflow.errors import DataError, ExplanationError
from histoflow.evaluating import store_of, workshop_of
from histoflow.evaluation import fitting, predictions
from histoflow.evaluation.fitting import Fitted
from histoflow.explanation import embedding, galleries
from histoflow.explanation.embedding import plane_of, subset
from histoflow.explanation.galleries import LONGEST_SIDE, Gallery, Pick, picked, to_show
from histoflow.explanation.gradcam import class_maps, spatial_layer
from histoflow.explanation.looking import look
from histoflow.registry import Registry, installed
from histoflow.runs import Run
from support import small_experiment, trained

ONE_OF_THREE = Fitted(model="", task="multiclass", images=1)
ONE_OF_TWO = Fitted(model="", task="binary", images=1, thresholds=(0.3,))
SEVERAL = Fitted(model="", task="multilabel", images=1)


# ── Choosing ────────────────────────────────────────────────────────────────────────────────────


def of_kind(picks: list[Pick], kind: str, of: int) -> list[int]:
    return [pick.index for pick in picks if (pick.kind, pick.of) == (kind, of)]


def test_the_surest_right_and_wrong_ones_and_the_least_sure_of_each_class_are_picked() -> None:
    calibrated = np.array(
        [[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.2, 0.8, 0.0], [0.1, 0.0, 0.9], [0.7, 0.2, 0.1], [0.4, 0.5, 0.1]]
    )
    picks = picked(calibrated, np.array([0, 0, 0, 0, 0, 1]), ONE_OF_THREE, each=2)
    assert of_kind(picks, "right", 0) == [0, 4]
    assert of_kind(picks, "wrong", 0) == [3, 2]
    assert of_kind(picks, "unsure", 0) == [1, 4]
    assert of_kind(picks, "right", 1) == of_kind(picks, "unsure", 1) == [5]
    assert of_kind(picks, "wrong", 1) == []
    assert not [pick for pick in picks if pick.of == 2], "no image is of this class"


def test_of_equals_those_that_come_first_are_picked() -> None:
    calibrated = np.tile([0.8, 0.2, 0.0], (6, 1))
    picks = picked(calibrated, np.zeros(6, np.int64), ONE_OF_THREE, each=3)
    assert of_kind(picks, "right", 0) == of_kind(picks, "unsure", 0) == [0, 1, 2]


def test_a_fitted_threshold_says_what_is_wrong_and_what_is_unsure() -> None:
    calibrated = np.array([[0.65, 0.35], [0.72, 0.28], [0.5, 0.5], [0.05, 0.95]])
    picks = picked(calibrated, np.array([0, 1, 1, 1]), ONE_OF_TWO, each=1)
    assert of_kind(picks, "wrong", 0) == [0]
    assert of_kind(picks, "wrong", 1) == of_kind(picks, "unsure", 1) == [1]
    assert of_kind(picks, "right", 1) == [3]


def test_of_several_labels_hits_false_alarms_and_misses_are_picked() -> None:
    calibrated = np.array([[0.9, 0.2], [0.8, 0.9], [0.4, 0.1], [0.1, 0.6], [0.7, 0.3]])
    labels = np.array([[1, 0], [0, 0], [1, 1], [1, 1], [1, 0]])
    picks = picked(calibrated, labels, SEVERAL, each=2)
    assert of_kind(picks, "found", 0) == [0, 4]
    assert of_kind(picks, "false_alarm", 0) == [1]
    assert of_kind(picks, "missed", 0) == [3, 2], "the one that was furthest from being told first"
    assert (of_kind(picks, "found", 1), of_kind(picks, "missed", 1)) == ([3], [2])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_kept_in_colour_and_no_larger_than_needed(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 60, channels), dtype=np.uint8)
    shown = to_show(images)
    expected = images if channels == 3 else images.mean(axis=3, keepdims=True).round()
    np.testing.assert_array_equal(shown, np.broadcast_to(expected, (2, 40, 60, 3)))
    large = to_show(np.zeros((1, 200, 400, channels), np.uint8))
    assert large.shape == (1, LONGEST_SIDE // 2, LONGEST_SIDE, 3)
    assert to_show(np.zeros((0, 200, 400, channels), np.uint8)).shape == (0, *large.shape[1:])


# ── The map ─────────────────────────────────────────────────────────────────────────────────────


def test_a_subset_holds_each_class_by_its_share() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [700, 200, 100]))
    chosen = subset(labels, most=100)
    assert np.bincount(labels[chosen]).tolist() == [70, 20, 10]
    assert (np.diff(chosen) > 0).all()
    assert subset(labels, most=1000).tolist() == list(range(1000))
    several = np.stack([labels == 0, labels == 2], axis=1).astype(np.uint8)
    assert several[subset(several, most=100)].sum(axis=0).tolist() == [70, 10]


def test_the_plane_holds_the_directions_of_most_variance_and_never_turns_over() -> None:
    chance = np.random.default_rng(0)
    spread = np.array([5.0, 2.0, 0.5], np.float32)
    features = chance.normal(size=(400, 3)).astype(np.float32) * spread
    points, explained = plane_of(features)
    variances = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    np.testing.assert_allclose(explained, variances[:2] / variances.sum(), rtol=1e-4)
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:2], rtol=1e-4)
    shuffled = chance.permutation(400)
    np.testing.assert_allclose(plane_of(features[shuffled])[0], points[shuffled], atol=1e-3)


def test_the_plane_is_that_of_the_differences_however_large_the_mean() -> None:
    chance = np.random.default_rng(0)
    features = (chance.normal(size=(300, 8)) * np.linspace(0.3, 0.02, 8)).astype(np.float32)
    points, explained = plane_of(features)
    moved, shares = plane_of(features + np.float32(1024))
    np.testing.assert_allclose(shares, explained, rtol=1e-3)
    np.testing.assert_allclose(moved, points, atol=1e-3)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.ones((5, 4)), "Got 5 images and 0 such features"),
        (np.eye(5)[:, :1], "Got 5 images and 1 such features"),
        (np.eye(2), "Got 2 images and 2 such features"),
        (np.full((5, 4), np.nan), "not finite"),
    ],
)
def test_features_that_make_no_map_are_told(features: NDArray[Any], words: str) -> None:
    with pytest.raises(ExplanationError, match=words):
        plane_of(features.astype(np.float32))


# ── A run ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def home_of_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the run ``run``: of one output for two classes, trained and evaluated."""
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(folder))
        experiment = small_experiment(loss="bce", evaluation={"gallery": 3})
        run = trained(experiment, "run")
        stages.evaluate(run)
    return folder


@pytest.fixture
def run(home_of_run: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HISTOFLOW_HOME", str(home_of_run))
    return Run(home_of_run / "runs" / "run")


def explained(run: Run) -> dict[str, Any]:
    metrics = run.metrics()
    assert metrics is not None
    return dict(metrics["explained"])


def network(run: Run) -> tuple[Any, torch.nn.Module]:
    """The workshop and the best model, as an evaluation has them."""
    workshop = workshop_of(small_experiment(loss="bce"), run, store_of(run), installed())
    model, best = workshop.model(weights_follow=True), checkpoint.find(run.checkpoints, "best")
    assert best is not None
    checkpoint.load_weights(best, model)
    return workshop, model.eval()


def test_the_examples_follow_from_the_stored_predictions(run: Run) -> None:
    kept, fitted = predictions.load(run.folder), fitting.load(run.folder)
    assert fitted is not None
    calibrated = fitted.calibrated(kept.probabilities)
    picks, told = picked(calibrated, kept.labels, fitted, each=3), explained(run)["gallery"]
    assert [(one["index"], one["kind"], one["class"]) for one in told["images"]] == [
        (pick.index, pick.kind, ("normal", "tumour")[pick.of]) for pick in picks
    ]
    assert kept.sources is not None
    for one in told["images"]:
        assert one["source"] == kept.sources[one["index"]]
        assert one["true"] == [("normal", "tumour")[kept.labels[one["index"]]]]
        assert one["probabilities"]["tumour"] == pytest.approx(calibrated[one["index"], 1])


def test_the_pictures_kept_are_those_images_and_what_speaks_for_their_classes(run: Run) -> None:
    gallery, told = galleries.load(run.folder), explained(run)["gallery"]
    assert gallery is not None
    assert gallery.indices.tolist() == [one["index"] for one in told["images"]]
    stored = store_of(run).unseal_test().gather(gallery.indices)
    np.testing.assert_array_equal(gallery.images, stored)
    workshop, model = network(run)
    pixels = torch.from_numpy(stored).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(getattr(workshop.manifest, name)).view(3, 1, 1) for name in ("mean", "std"))
    inputs = ((pixels - mean) / std)[gallery.map_rows]
    layer = spatial_layer(model, inputs)
    assert (told["layer"], told["grid"]) == (layer.name, list(layer.grid))
    expected = class_maps(model, layer, inputs, gallery.map_classes.tolist(), of=2)
    np.testing.assert_allclose(gallery.maps, expected.numpy(), atol=1e-4)


def test_a_wrong_image_has_an_overlay_for_what_was_told_and_for_what_is_right(run: Run) -> None:
    gallery, told = galleries.load(run.folder), explained(run)["gallery"]
    assert gallery is not None
    for row, one in enumerate(told["images"]):
        classes = [("normal", "tumour")[n] for n in gallery.map_classes[gallery.map_rows == row]]
        assert classes == list(dict.fromkeys(one["told"] + one["true"]))
    assert len(gallery.maps) > len(gallery.images), "some were told wrongly"


def test_the_map_holds_every_image_of_these_few(run: Run) -> None:
    found, told, store = embedding.load(run.folder), explained(run)["embedding"], store_of(run)
    assert found is not None
    readers = [store.split("train"), store.split("val"), store.unseal_test()]
    assert (
        told["images"]
        == told["of"]
        == {name: len(split) for name, split in zip(SPLITS, readers, strict=True)}
    )
    assert found.points.shape == (sum(map(len, readers)), 2)
    for name, split in zip(SPLITS, readers, strict=True):
        assert found.indices[found.of(name)].tolist() == list(range(len(split)))
        np.testing.assert_array_equal(found.labels[found.of(name)], split.labels)
        assert split.groups is not None
        np.testing.assert_array_equal(found.groups[found.of(name)], split.groups)
    assert told["explained"] == found.explained.tolist()
    assert told["explained"][0] >= told["explained"][1] > 0


def looked(run: Run, folder: Path, registry: Registry | None = None, **evaluation: Any) -> Any:
    experiment = small_experiment(loss="bce", evaluation=evaluation)
    store, fitted = store_of(run), fitting.load(run.folder)
    workshop = workshop_of(experiment, run, store, registry or installed())
    model = workshop.model().train()
    assert fitted is not None
    told = look(workshop, model, store, store.unseal_test(), predictions.load(run.folder), fitted, folder)
    assert model.training, "it is left as it was"
    return told


def test_who_wants_neither_pays_for_neither(run: Run, tmp_path: Path) -> None:
    assert looked(run, tmp_path, gallery=0, embedding=False) is None
    assert looked(run, tmp_path, gallery=0)["gallery"] is None
    assert looked(run, tmp_path, gallery=1, embedding=False)["embedding"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"embedding.npz", "gallery.npz"}


def test_a_layer_that_its_plugin_misnames_costs_the_overlays_and_not_the_evaluation(
    run: Run, tmp_path: Path
) -> None:
    known = installed().components
    found = known["architecture", "cnn"]
    misnamed = replace(found, component=replace(found.component, spatial_layer="backbone"))
    registry = Registry({**known, ("architecture", "cnn"): misnamed})
    told = looked(run, tmp_path, registry, gallery=2)
    assert "Got 'backbone'" in told["gallery"]["note"]
    assert (told["gallery"]["layer"], told["gallery"]["grid"]) == (None, None)
    assert len(told["gallery"]["images"]) > 3
    assert told["embedding"]["explained"]
    gallery = galleries.load(tmp_path)
    assert gallery is not None
    assert (len(gallery.images), len(gallery.maps)) == (len(told["gallery"]["images"]), 0)


class TooLarge(torch.nn.Module):
    """For its device, once it is asked what it was not trained for."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4, outputs)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("Tried to allocate 20 GiB")


def test_a_device_that_is_too_small_costs_the_pictures_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    known = installed().components
    found = known["architecture", "cnn"]
    too_large = replace(found.component, build=lambda _, __, outputs: TooLarge(outputs), skeleton=None)
    registry = Registry({**known, ("architecture", "cnn"): replace(found, component=too_large)})
    told = looked(run, tmp_path, registry, gallery=2)
    assert "does not fit into the memory" in told["gallery"]["note"]
    assert "evaluation.gallery=0" in told["gallery"]["note"]
    assert "evaluation.embedding=false" in told["embedding"]["note"]
    assert len(told["gallery"]["images"]) > 3


def test_a_damaged_file_is_told_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert galleries.load(tmp_path) is None
    (tmp_path / galleries.FILE).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(
        DataError, match=r"gallery.npz is damaged.*Evaluate the run again: histoflow evaluate"
    ):
        galleries.load(tmp_path)
    np.savez(tmp_path / embedding.FILE, points=np.zeros((1, 2)))
    with pytest.raises(DataError, match="embedding.npz is damaged"):
        embedding.load(tmp_path)


def test_no_examples_at_all_are_kept_as_none(tmp_path: Path) -> None:
    nothing = np.zeros(0, np.int64)
    empty = Gallery(
        indices=nothing,
        images=np.zeros((0, 8, 8, 3), np.uint8),
        maps=np.zeros((0, 1, 1), np.float32),
        map_rows=nothing,
        map_classes=nothing,
    )
    galleries.save(tmp_path, empty)
    kept = galleries.load(tmp_path)
    assert kept is not None
    assert (kept.images.shape, kept.indices.tolist()) == ((0, 8, 8, 3), [])


def test_the_plane_is_that_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(3)
    features = (rng.normal(size=(60, 7)) @ rng.normal(size=(7, 7)) + 900).astype(np.float32)
    points, shares = plane_of(features)
    reference = PCA(n_components=2).fit(features.astype(np.float64))
    assert np.allclose(np.abs(points), np.abs(reference.transform(features.astype(np.float64))), atol=1e-3)
    assert np.allclose(shares, reference.explained_variance_ratio_, atol=1e-6)
