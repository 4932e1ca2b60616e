"""Images of one's own, in each of the ways they may lie, become a model and its figures."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from histoflow import DataError, files, stages
from histoflow.data.store import PackedStore
from histoflow.experiment import Experiment, load, parse

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


def test_the_recipe_takes_vgg16_by_its_name_alone(place: Path) -> None:
    experiment = load("folder-transfer", [f"dataset.path={place / 'patches'}", "architecture.name=vgg16"])
    assert (experiment.architecture.name, experiment.preprocess[0].name) == ("vgg16", "resize")


def test_the_recipe_without_a_folder_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"cannot use .*patches:\n  there is no such folder"):
        stages.fetch(load("folder-transfer"))


def test_a_file_that_may_not_be_read_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's answer stands in for that about a file without permission, which root may read."""

    def refusing(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(files, "digest_of_file", refusing)
    monkeypatch.chdir(place)
    with pytest.raises(DataError, match=r"Cannot read .*0\.png: Permission denied\. Make it readable"):
        stages.fetch(experiment_of(OWN_DATA["folder"]))
