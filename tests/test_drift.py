"""Whether new images look and are answered like those of validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histoflow import drift, drifting, stages
from histoflow.answering import answers_of
from histoflow.data.appearance import measured
from histoflow.data.store import PackedStore, SplitReader
from histoflow.drift import Keeper, Reference
from histoflow.errors import DataError, RunError, UserError
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.runs import Run
from support import preprocessed, small_experiment

CLASSES = ("normal", "tumour")
FITTED = Fitted(model="abc", task="binary", images=100, temperature=1.5, thresholds=(0.4,))
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PackedStore:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(tmp_path_factory.mktemp("packed")))
        tissue = {"name": "tissue", "classes": 2, "size": 16, "images": 900, "slides": 180}
        experiment = small_experiment(dataset=tissue)
        return PackedStore(preprocessed(experiment).folder)


@pytest.fixture
def run() -> Run:
    return stages.start(small_experiment(), "run")


def said_of(images: Images) -> NDArray[np.float64]:
    """A model that finds tumour where it is dark."""
    tumour = 1 / (1 + np.exp(8 * (images.mean(axis=(1, 2, 3)) / 255 - 0.65)))
    return np.stack([1 - tumour, tumour], axis=1)


def pixels(split: SplitReader) -> Images:
    return split.gather(np.arange(len(split)))


def write_reference(run: Run, store: PackedStore) -> Reference:
    split = store.split("val")
    validation = Predictions(probabilities=said_of(pixels(split)), labels=split.labels, groups=split.groups)
    return drift.write_reference(run.folder, split, validation, FITTED, CLASSES, seed=1)


def keep(run: Run, images: Images, tta: str = "none", problems: int = 0) -> Path:
    reference = drift.reference_in(run.folder)
    assert reference is not None
    keeper = Keeper(reference, CLASSES, tta)
    for part in np.array_split(images, 3):
        keeper.add(measured(part), answers_of(FITTED, said_of(part)))
    return keeper.save(run.predictions, Path("table.parquet"), len(images) + problems, problems)


def test_images_of_the_same_kind_stay_within_the_bands(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    keep(run, pixels(store.split("train")))
    found = drifting.look(run)
    assert found.outside == ()
    assert found.words == f"No drift: all 9 figures of {found.images} images lie within their bands."


def test_darker_images_are_told_with_what_changed_and_which_way(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    keep(run, (pixels(store.split("train")) * 0.75).astype(np.uint8))
    found = drifting.look(run)
    told = {one.figure: one.words for one in found.outside}
    assert {"brightness", "red", "green", "blue", "predicted"} <= told.keys()
    assert told["brightness"].startswith("brightness is lower, on average 0.")
    assert told["predicted"].startswith("'tumour' is told more often, of ")


def test_another_stain_changes_colours_and_not_what_is_sharp(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    keep(run, pixels(store.split("train"))[..., [0, 2, 1]])
    told = {one.figure for one in drifting.look(run).outside}
    assert {"green", "blue"} <= told
    assert not {"red", "sharpness"} & told


def test_slides_of_another_laboratory_are_seen_to_be_so(run: Run, store: PackedStore) -> None:
    """Those of the data set's test split are stained otherwise."""
    write_reference(run, store)
    keep(run, pixels(store.unseal_test()))
    assert "saturation" in {one.figure for one in drifting.look(run).outside}


def test_a_wider_spread_is_told_as_such(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    images = pixels(store.split("train"))
    darker, brighter = images[::2] * 0.6, 255 - (255 - images[1::2]) * 0.3
    keep(run, np.concatenate([darker, brighter]).astype(np.uint8))
    told = {one.figure: one.words for one in drifting.look(run).outside}
    assert told["brightness"].startswith("brightness varies more, by 0.")


def test_the_latest_predictions_are_taken_together(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    images = pixels(store.split("train"))
    keep(run, (images * 0.5).astype(np.uint8))
    for part in np.array_split(images, 2):
        keep(run, part, problems=1)
    latest, two, whole = (drifting.look(run, last) for last in (1, 2, 3))
    assert (latest.images, two.images, whole.images) == (len(images) // 2, len(images), 2 * len(images))
    assert (two.predictions, two.problems) == (2, 2)
    assert not two.outside
    assert whole.outside
    at_once = drifting.look_at(run, keep(run, images))
    assert [one.distance for one in at_once.differences] == [one.distance for one in two.differences]


def test_only_the_latest_predictions_are_read(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    images = pixels(store.split("train"))
    first = keep(run, images)
    keep(run, images)
    first.write_text("{")
    assert drifting.look(run).note == ""
    with pytest.raises(DataError, match=rf"{first.name} is damaged"):
        drifting.look(run, 2)


def test_a_damaged_file_before_the_latest_is_left_out_and_named(run: Run, store: PackedStore) -> None:
    reference = write_reference(run, store)
    images = pixels(store.split("train"))
    oldest, damaged, other = (keep(run, images) for _ in range(3))
    of_another = drift.read_kept(other).model_copy(update={"reference": "of a former evaluation"})
    other.write_text(of_another.model_dump_json())
    damaged.write_text("{")
    found = drifting.look(run)
    assert found.images == len(images)
    assert found.note.startswith(f"Left out: {damaged} is damaged")
    assert drift.read_kept(oldest).reference == reference.key


def test_too_few_images_tell_nothing(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    keep(run, np.zeros((12, 16, 16, 3), np.uint8))
    found = drifting.look(run)
    assert not found.told
    assert found.words == "Too few images to tell drift: 12 were predicted, and it takes 30."


def test_answers_of_several_views_are_not_held_against_those_of_one(run: Run, store: PackedStore) -> None:
    write_reference(run, store)
    keep(run, pixels(store.split("train")), tta="flips")
    found = {one.figure: one for one in drifting.look(run).differences}
    assert found["confidence"].distance is None
    assert "--tta" in found["confidence"].words
    assert found["brightness"].distance is not None


def test_of_several_labels_each_class_is_a_figure(run: Run, store: PackedStore) -> None:
    split = store.split("val")
    fitted = Fitted(model="abc", task="multilabel", images=len(split))
    shown = np.tile([[0.9, 0.2], [0.6, 0.1]], (len(split), 1))[: len(split)]
    validation = Predictions(probabilities=shown, labels=(shown > 0.5).astype(np.int64))
    reference = drift.write_reference(run.folder, split, validation, fitted, ("edema", "mass"), seed=1)
    keeper = Keeper(reference, ("edema", "mass"), "none")
    keeper.add(measured(pixels(split)), answers_of(fitted, shown[:, ::-1]))
    keeper.save(run.predictions, Path("table.parquet"), len(split), 0)
    told = {one.figure: one.words for one in drifting.look(run).outside}
    assert told["shows mass"] == (
        "'mass' is told more often, of 100.0% of the images where it was 0.0% of validation"
    )
    assert "'edema' is told less often" in told["shows edema"]
    assert "confidence" not in told


def test_few_groups_cannot_tell_how_groups_differ(run: Run, store: PackedStore) -> None:
    split = store.split("val")
    few = np.array(["a", "b"])[np.arange(len(split)) % 2]
    validation = Predictions(probabilities=said_of(pixels(split)), labels=split.labels, groups=few)
    reference = drift.write_reference(run.folder, split, validation, FITTED, CLASSES, seed=1)
    assert reference.groups is None
    assert "only 2 groups" in reference.note
    keep(run, pixels(split))
    assert drifting.look(run).note == reference.note
    several = np.arange(len(split)).astype(np.str_)
    several[6:] = several[5]
    kept = Predictions(probabilities=validation.probabilities, labels=split.labels, groups=several)
    some = drift.write_reference(run.folder, split, kept, FITTED, CLASSES, seed=1)
    assert (some.groups, some.note) == (
        6, "Validation has only 6 groups: bands are wide, and only great changes are seen.",
    )  # fmt: skip
    assert write_reference(run, store).groups == len(set(split.groups if split.groups is not None else ()))


def test_what_is_missing_or_damaged_is_told(run: Run, store: PackedStore) -> None:
    with pytest.raises(RunError, match="run keeps nothing that new images.*histoflow evaluate run"):
        drifting.look(run)
    reference = write_reference(run, store)
    with pytest.raises(RunError, match="has predicted no image files since it was evaluated"):
        drifting.look(run)
    with pytest.raises(UserError, match="--last must be at least 1. Got 0"):
        drifting.look(run, 0)
    kept = keep(run, pixels(store.split("train")))
    other = reference.model_copy(update={"model": "another"}).model_dump(mode="json")
    (run.folder / drift.FILE).write_text(json.dumps(other))
    with pytest.raises(RunError, match="has predicted no image files since it was evaluated"):
        drifting.look(run)
    kept.write_text("{}")
    with pytest.raises(DataError, match="(?s)is damaged: .*Remove it"):
        drifting.look(run)
    (run.folder / drift.FILE).write_text("{")
    with pytest.raises(DataError, match="(?s)is damaged: .*Evaluate the run again"):
        drifting.look(run)
