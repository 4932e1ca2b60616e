"""The epoch picked by the worse of validation as it is and with shifted stains."""

import math

import pytest
import torch

from histoflow import stages
from histoflow.errors import DivergedError, ExperimentError
from histoflow.robustness import shifted
from support import preprocessed, small_experiment

CLEAN = {"val_loss": 0.5, "val_accuracy": 0.8}


def rises(name):
    return name != "val_loss"


@pytest.mark.parametrize(("monitor", "worst"), [("val_loss", 0.9), ("val_accuracy", 0.6)])
def test_the_worst_counts_whichever_way_a_figure_should_go(monitor, worst):
    ways = [{"val_loss": 0.4, "val_accuracy": 0.9}, {"val_loss": 0.9, "val_accuracy": 0.6}]
    found = shifted.together(CLEAN, ways, monitor, rises)
    assert found == CLEAN | {
        "val_shifted_loss": 0.9,
        "val_shifted_accuracy": 0.6,
        f"worst_{monitor}": worst,
    }


def test_a_model_that_gains_by_the_shift_is_judged_by_the_clean_images():
    ways = [{"val_loss": 0.3, "val_accuracy": 0.95}, {"val_loss": 0.2, "val_accuracy": 0.9}]
    assert shifted.together(CLEAN, ways, "val_accuracy", rises)["worst_val_accuracy"] == 0.8
    assert shifted.together(CLEAN, ways, "val_loss", rises)["worst_val_loss"] == 0.5


def test_what_is_undefined_under_a_shift_is_not_judged():
    ways = [{"val_loss": 0.6, "val_accuracy": None}, {"val_loss": 0.6, "val_accuracy": 0.9}]
    found = shifted.together(CLEAN, ways, "val_accuracy", rises)
    assert found["val_shifted_accuracy"] is found["worst_val_accuracy"] is None
    assert found["val_shifted_loss"] == 0.6


def test_a_network_that_breaks_down_under_a_shift_is_told():
    with pytest.raises(DivergedError, match=r"with shifted stains the val_loss is nan"):
        shifted.together(CLEAN, [CLEAN, {"val_loss": math.nan}], "val_loss", rises)


def test_the_two_shifts_are_opposite_and_the_same_for_every_image():
    images = torch.full((2, 3, 8, 8), 0.6)
    images[1] *= 0.5
    changes = [change(images) - images for change in shifted.WAYS]
    for change in changes:
        assert change.abs().mean() > 0.01
    # More haematoxylin takes away red, less of it gives red.
    assert changes[0][:, 0].max() < 0 < changes[1][:, 0].min()
    assert torch.equal(shifted.bluer(images[1:]), shifted.bluer(images)[1:])


def test_images_without_colours_have_no_stains_to_shift():
    with pytest.raises(ExperimentError, match=r"training\.shifted_validation: needs images of red, green"):
        small_experiment(
            dataset={"name": "medmnist", "subset": "pneumoniamnist"}, training={"shifted_validation": True}
        )


def figures(run):
    """The history without what a clock measured."""
    return [{key: value for key, value in entry.items() if "second" not in key} for entry in run.history()]


def test_the_epoch_is_picked_by_the_worst_and_a_run_that_goes_on_picks_alike():
    experiment = small_experiment(training={"epochs": 3, "batch_size": 32, "shifted_validation": True})
    packed = preprocessed(experiment)
    whole, broken = (stages.start(experiment, name) for name in ("whole", "broken"))
    stages.train(experiment, packed, whole)
    for epoch in stages.training(experiment, packed, broken):
        assert epoch["epoch"] == 1
        break
    stages.train(experiment, packed, broken)

    history, best = whole.history(), whole.read().best
    for entry in history:
        assert entry["worst_val_loss"] == max(entry["val_loss"], entry["val_shifted_loss"])
    assert any(entry["val_shifted_loss"] != entry["val_loss"] for entry in history)
    worst = [entry["worst_val_loss"] for entry in history]
    epoch = worst.index(min(worst)) + 1
    assert best == {"epoch": epoch, "monitor": "worst_val_loss", "value": min(worst)}
    assert (figures(broken), broken.read().best) == (figures(whole), best)
