"""Images of one's own, in each of the ways they may lie, become a model and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from torch import nn

from histoflow import Architecture, DataError, DataInfo, home, registry, stages
from histoflow.data.store import PackedStore
from histoflow.engine.groups import Freezing, Rule, parameter_groups
from histoflow.experiment import Experiment, load, parse
from histoflow.runs import Run
from permissions import permissions_hold

CLASSES = ("stroma", "tumour")
SPLITS = ("train", "val", "test")
COUNTS = {"train": 12, "val": 6, "test": 6}
OWN_DATA = {
    "folder": "dataset: {name: image_folder, path: patches}",
    "table": "dataset: {name: table, path: patches.csv}",
    "several labels": "dataset: {name: table, path: patches.csv, labels: [stroma, tumour]}\nloss: bce",
    "npz": "dataset: {name: arrays, images: patches.npz, classes: [stroma, tumour]}",
    "hdf5": "dataset: {name: arrays, images: 'x_{split}.h5', labels: 'y_{split}.h5'}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 24 images as class folders, as a table of them, as one npz, and as HDF5 files."""
    place = tmp_path_factory.mktemp("own")
    lines, arrays = ["path,label,stroma,tumour,split,group"], {}
    for split in SPLITS:
        images, labels = drawn(split)
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"patches/{split}/{CLASSES[label]}/{index}.png"
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / name)
            lines.append(f"{name},{CLASSES[label]},{1 - label},{label},{split},{split} {index // 2}")
        for letter, array in (("x", images), ("y", labels)):
            with h5py.File(place / f"{letter}_{split}.h5", "w") as file:
                file[letter] = array
    (place / "patches.csv").write_text("\n".join(lines))
    np.savez_compressed(place / "patches.npz", **arrays)
    return place


def drawn(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    generator = np.random.default_rng(SPLITS.index(split))
    labels = np.arange(COUNTS[split]) % 2
    noise = generator.integers(0, 120, (len(labels), 32, 32, 3))
    return (noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels


def experiment_of(text: str) -> Experiment:
    small: dict[str, Any] = {
        "architecture": {"name": "cnn", "widths": [4, 4]},
        "training": {"epochs": 1, "batch_size": 12},
        "compute": {"device": "cpu"},
        "metrics": ["roc_auc"],
    }
    return parse(small | YAML(typ="safe", pure=True).load(text))


def trained(experiment: Experiment) -> Iterator[Any]:
    """The packed data, then the figures on the test split."""
    run = stages.start(experiment, "run")
    packed = stages.preprocess(experiment, stages.fetch(experiment))
    yield PackedStore(packed.folder).manifest
    stages.train(experiment, packed, run)
    yield stages.evaluate(run).metrics["scores"]


@pytest.mark.parametrize("way", OWN_DATA)
def test_each_way_of_storing_images_trains(way: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    manifest, scores = trained(experiment_of(OWN_DATA[way]))
    assert {split: facts.images for split, facts in manifest.splits.items()} == COUNTS
    assert manifest.classes == (("0", "1") if way == "hdf5" else CLASSES)
    assert manifest.quarantine == ()
    assert "roc_auc" in scores


def test_one_class_in_test_is_told_up_to_the_report(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    lines = (place / "patches.csv").read_text().splitlines()
    (place / "one.csv").write_text("\n".join(line for line in lines if "/test/tumour/" not in line))
    text = "dataset: {name: table, path: one.csv}\nmetrics: [accuracy, roc_auc, recall]"
    manifest, scores = trained(experiment_of(f"{text}\nevaluation: {{gallery: 0, embedding: false}}"))
    assert manifest.splits["test"].counts == (3, 0)
    assert scores["accuracy"]["value"] is not None
    assert (scores["roc_auc"]["value"], scores["roc_auc"]["undefined"]) == (None, "all images are of class 0")
    assert (scores["recall"]["value"], scores["recall"]["per_class"][1]) == (None, None)
    page, card = stages.report(Run(home.runs() / "run"))
    assert "roc auc: all images are of class 0." in page.read_text()
    assert "| roc auc | – | – |" in card.read_text()


def test_all_ways_give_the_same_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    means = set()
    for text in OWN_DATA.values():
        experiment = experiment_of(text)
        packed = stages.preprocess(experiment, stages.fetch(experiment))
        means.add(PackedStore(packed.folder).manifest.mean)
    assert len(means) == 1


def test_the_recipe_folder_transfer_trains(place: Path) -> None:
    experiment = load(
        "folder-transfer",
        [
            f"dataset.path={place / 'patches'}",
            "preprocess.0.size=32",
            "architecture.weights=none",
            "training.epochs=2",
            "training.batch_size=12",
            "compute.device=cpu",
        ],
    )
    _, scores = trained(experiment)
    assert "balanced_accuracy" in scores


@pytest.mark.parametrize(
    ("name", "settings"),
    [("resnet", []), ("vgg16", ["architecture.name=vgg16", "architecture.weights=imagenet"])],
)
def test_the_recipe_takes_either_network_from_imagenet(name: str, settings: list[str], place: Path) -> None:
    """And its head learns in the first epoch, all of it from the second on."""
    experiment = load("folder-transfer", [f"dataset.path={place / 'patches'}", *settings])
    chosen = experiment.architecture
    assert (chosen.name, chosen.weights) == (name, "imagenet")  # type: ignore[attr-defined]
    with torch.device("meta"):
        model = skeleton_of(experiment)
    rules = [Rule(**group.model_dump()) for group in experiment.training.groups]
    base, head = (set(map(id, group["params"])) for group in parameter_groups(model, rules))
    assert (base, head) == tuple(
        set(map(id, model.get_submodule(part).parameters())) for part in ("base", "head")
    )
    freezing = Freezing(model.train(), rules)
    for epoch, learning in ((1, head), (2, base | head)):
        freezing.at(epoch)
        assert {id(parameter) for parameter in model.parameters() if parameter.requires_grad} == learning


def skeleton_of(experiment: Experiment) -> nn.Module:
    """The network for images of two classes at the size of the recipe, without its weights."""
    architecture = registry.installed().get(Architecture, experiment.architecture.name)
    side = experiment.preprocess[0].size  # type: ignore[attr-defined]
    info = DataInfo(task="binary", classes=CLASSES, channels=3, size=(side, side))
    assert architecture.skeleton
    return architecture.skeleton(experiment.architecture, info, 2)


def test_the_recipe_without_a_folder_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot use .*patches:\n  there is no such folder"):
        stages.fetch(load("folder-transfer"))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "0.png")
    (tmp_path / "tumour" / "0.png").chmod(0)
    experiment = experiment_of(f"dataset: {{name: image_folder, path: {tmp_path}}}")
    expected = r"Cannot read .*tumour/0\.png: Permission denied\. Make it readable"
    with permissions_hold(), pytest.raises(DataError, match=expected):
        stages.fetch(experiment)
