"""``histoflow.load_model``: what it predicts, and what it refuses to load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import histoflow
from exported import bundle as bundle_of_the_run
from exported import evaluated_run, rewritten
from histoflow import stages
from histoflow.bundles.loading import Model, load_model
from histoflow.errors import DataError, UserError


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(bundle_of_the_run(), device="cpu")


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """As large as before preprocessing."""
    return np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)


# ── Predicting ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tta", ["none", "dihedral"])
def test_it_says_what_histoflow_predict_says(
    model: Model, images: NDArray[np.uint8], tmp_path: Path, tta: Any
) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    run = evaluated_run()
    table = pq.read_table(stages.predict(run, paths, out=tmp_path / "table.parquet", tta=tta).table)
    found = model.predict(paths, tta=tta)
    told = np.stack([table[f"p_{name}"].to_numpy() for name in model.classes], axis=1)
    assert np.abs(found.probabilities - told).max() < 1e-6
    assert found.labels == table["predicted"].to_pylist()
    assert np.abs(found.confidence - table["confidence"].to_numpy()).max() < 1e-6
    assert [list(one) for one in found.sets or ()] == table["set"].to_pylist()
    assert np.allclose(model.fitted.calibrated(found.raw), found.probabilities)


def test_files_pictures_and_arrays_are_the_same_images(
    model: Model, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    mixed = model.predict(
        [tmp_path / "0.png", str(tmp_path / "0.png"), Image.fromarray(images[1]), images[2]]
    )
    stacked = model.predict(images[[0, 0, 1, 2]])
    assert np.abs(mixed.probabilities - stacked.probabilities).max() < 1e-7


def test_grey_images_are_taken_in_each_of_their_forms(model: Model, images: NDArray[np.uint8]) -> None:
    grey = images[0, :, :, 0]
    forms = [grey, grey[:, :, None], np.stack([grey] * 3, axis=2), Image.fromarray(grey)]
    found = model.predict(forms).probabilities
    assert np.abs(found - found[0]).max() < 1e-7


def test_the_size_of_a_batch_changes_nothing(model: Model, images: NDArray[np.uint8]) -> None:
    found = [model.predict(images, batch_size=size).probabilities for size in (1, 4, None)]
    assert np.abs(found[0] - found[2]).max() < 1e-6
    assert np.abs(found[1] - found[2]).max() < 1e-6


def test_no_images_have_no_predictions(model: Model) -> None:
    found = model.predict([])
    assert (found.probabilities.shape, found.labels, found.sets) == ((0, 2), [], [])


def test_labels_and_sets_follow_what_was_fitted(model: Model, images: NDArray[np.uint8]) -> None:
    assert model.manifest.fitted is not None
    second = np.sort(model.predict(images).probabilities[:, 1])
    changed = {"thresholds": (float(second[-1]),), "levels": (0.0, float(second[-1]))}
    fitted = model.manifest.fitted.model_copy(update=changed)
    strict = replace(model, manifest=model.manifest.model_copy(update={"fitted": fitted}))
    found = strict.predict(images)
    above = found.probabilities[:, 1] == second[-1]
    assert above.sum() >= 1
    assert found.labels == [model.classes[int(one)] for one in above]
    assert found.sets == [model.classes if one else model.classes[:1] for one in above]


def test_several_labels_are_told_together(model: Model, images: NDArray[np.uint8]) -> None:
    fitted = {"task": "multilabel", "temperature": 1.0, "thresholds": (0.0, 2.0), "levels": None}
    assert model.manifest.fitted is not None
    changed = {"task": "multilabel", "fitted": model.manifest.fitted.model_copy(update=fitted)}
    several = replace(model, manifest=model.manifest.model_copy(update=changed))
    assert several.predict(images[:2]).labels == [model.classes[:1], model.classes[:1]]


def test_pixels_that_are_preprocessed_already_skip_the_chain(model: Model) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, *model.size, 3), np.uint8)
    # Resizing to the size that an image has leaves it as it is.
    assert np.allclose(model.of_pixels(pixels).raw, model.predict(pixels).raw, atol=1e-7)
    with pytest.raises(DataError, match=r"uint8 of shape N×24×24×3.*\(3, 9, 24, 3\)"):
        model.of_pixels(pixels[:, :9])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda one: [one, one.astype(float)],
            r"images\[1\] cannot .* must be uint8, .* are float64: convert",
        ),
        (lambda one: [one, one, one[:, :, :2]], r"images\[2\] .* its shape is \(32, 32, 2\)"),
        (lambda one: [np.dstack([one, one[:, :, :1]])], r"images\[0\] .* leave out what is beyond RGB"),
        (lambda one: ["nowhere.png"], r"images\[0\] \(nowhere\.png\) .* No such file"),
        (lambda one: [one, None], r"images\[1\] .* a path, a picture of Pillow's or a uint8 array"),
        (lambda one: [Image.new("F", (32, 32))], r"images\[0\] .* 32-bit pixels"),
    ],
)
def test_an_image_that_cannot_be_used_is_told_by_its_index(
    model: Model, images: NDArray[np.uint8], given: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        model.predict(given(images[0]))


def test_an_image_that_the_network_says_no_number_of_is_told_by_its_index(
    model: Model, images: NDArray[np.uint8]
) -> None:
    def link(outputs: Tensor) -> NDArray[np.float64]:
        found = model._terms.link(outputs)
        found[2] = np.nan
        return found

    broken = replace(model, _terms=replace(model._terms, link=link), _predictors={})
    with pytest.raises(DataError, match=r"images\[2\] cannot be predicted: .* not finite"):
        broken.predict(images)
    with pytest.raises(DataError, match=r"images\[2\]"):
        broken.of_pixels(images[:, :24, :24])


def test_images_of_another_size_are_told(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    unresized = rewritten(tmp_path, lambda data: data | {"preprocess": []})
    with pytest.raises(
        DataError, match=r"images\[0\] .* is 32×32 pixels with 3 channels .* trained on 24×24"
    ):
        load_model(unresized).predict(images)


def test_what_is_asked_wrongly_is_told(model: Model, images: NDArray[np.uint8]) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"images": images[0]}, r"array of shape \(32, 32, 3\)\. Put a single image into a list"),
        ({"images": "a.png"}, r"must be a list, or one array N×H×W×C. Got str"),
        ({"images": images, "tta": "mirror"}, "tta must be one of none, flips, dihedral. Got mirror"),
        ({"images": images, "batch_size": 0}, "at least 1. Got 0"),
    ]
    for asked, message in wrong:
        with pytest.raises(UserError, match=message):
            model.predict(**asked)


def test_a_model_tells_what_it_is(model: Model) -> None:
    assert (model.classes, model.task, model.size, model.channels) == (
        ("normal", "tumour"), "binary", (24, 24), 3,
    )  # fmt: skip
    assert repr(model) == "<histoflow.Model patches-run: normal, tumour; on cpu>"


ALONE = """
import sys

class NoPrefect:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] != "prefect", "Prefect is imported"

sys.meta_path.insert(0, NoPrefect())
import histoflow
assert "torch" not in sys.modules, "importing histoflow stays light"
import torch, pickle, numpy as np

def never(*given, **named):
    raise AssertionError("something is unpickled")

torch.load = torch.export.load = pickle.load = pickle.loads = pickle.Unpickler = never
import histoflow.bundles.loading
found = histoflow.load_model(sys.argv[1]).predict(np.zeros((2, 32, 32, 3), np.uint8))
print(found.probabilities.shape, "prefect" in sys.modules)
"""


def test_it_needs_no_prefect_and_unpickles_nothing() -> None:
    command = [sys.executable, "-c", ALONE, str(bundle_of_the_run())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(2, 2) False"


def test_histoflow_has_it_and_nothing_by_any_other_name() -> None:
    assert histoflow.load_model is load_model
    with pytest.raises(AttributeError, match="has no attribute 'load_mode'"):
        histoflow.load_mode  # type: ignore[attr-defined]  # noqa: B018
