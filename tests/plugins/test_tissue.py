"""The painted data set: reproducible anywhere, split by slide, and not to be solved by colour alone."""

import hashlib
import pickle
import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from histoflow.components import SPLITS
from histoflow.testing import check_component
from histoflow_plugins import _tissue_scenes as scenes
from histoflow_plugins._tissue_canvas import Canvas
from histoflow_plugins.tissue import NINE, TISSUE, TissueParams, histoflow_datasets

BOTH = pytest.mark.parametrize("classes", [2, 9])


def opened(**params):
    return TISSUE.open(TissueParams(**params), ())


def images(samples, indices):
    return np.stack([samples.read(index) for index in indices])


@cache
def painted(classes):
    """Samples and all their images, painted once for the tests that look at many."""
    samples = opened(classes=classes, size=24, images=1350)
    return samples, images(samples, range(1350))


# ── The contract ────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_it_keeps_the_contract_of_a_dataset(classes):
    check_component(TISSUE, TissueParams(classes=classes, images=90, size=32))


def test_the_plugin_hands_over_this_one_dataset():
    assert histoflow_datasets() == (TISSUE,)


def test_there_is_nothing_to_fetch(tmp_path):
    assert tuple(TISSUE.fetch(TissueParams(), tmp_path)) == ()


@BOTH
def test_the_facts_are_those_of_the_opened_samples(classes):
    params = TissueParams(classes=classes, images=100, size=32)
    facts, samples = TISSUE.facts(params), TISSUE.open(params, ())
    assert facts.classes == samples.classes
    assert len(facts.classes) == classes
    assert facts.images == len(samples.rows) == 100
    assert (*facts.size, facts.channels) == samples.read(0).shape == (32, 32, 3)
    assert facts.task == ("binary" if classes == 2 else "multiclass")
    assert facts.official_split
    assert facts.groups
    assert facts.licence
    assert facts.citation


def test_each_of_the_nine_classes_has_a_painter():
    assert tuple(scenes.NINE) == NINE


def test_every_parameter_is_described():
    assert all(field.description for field in TissueParams.model_fields.values())


@pytest.mark.parametrize(
    "wrong", [{"classes": 3}, {"size": 15}, {"size": 513}, {"images": 26}, {"slides": 2}, {"seed": -1}]
)
def test_parameters_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        TissueParams(**wrong)


def test_listing_the_plugin_loads_no_numpy():
    code = "import sys, histoflow_plugins.tissue; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── Reproducible ────────────────────────────────────────────────────────────────────────────────


def test_the_same_parameters_paint_the_same_pixels_in_any_order():
    first = images(opened(size=32), range(20))
    second = images(opened(size=32), reversed(range(20)))
    assert np.array_equal(first, second[::-1])


@BOTH
def test_another_process_paints_the_same_pixels(classes):
    code = f"""
import hashlib
from histoflow_plugins.tissue import TISSUE, TissueParams
read = TISSUE.open(TissueParams(classes={classes}), ()).read
print(hashlib.sha256(b"".join(read(index).tobytes() for index in range(18))).hexdigest())
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    here = hashlib.sha256(images(opened(classes=classes), range(18)).tobytes())
    assert told.strip() == here.hexdigest()


def test_opened_samples_can_be_sent_to_another_process():
    samples = opened(size=16)
    assert np.array_equal(pickle.loads(pickle.dumps(samples)).read(5), samples.read(5))


def test_another_seed_paints_other_images_of_other_slides():
    first, second = (images(opened(size=32, seed=seed), range(18)).astype(float) for seed in (0, 1))
    assert np.abs(first - second).mean(axis=(1, 2, 3)).min() > 1


def test_no_two_images_are_alike():
    _, pixels = painted(9)
    assert len({image.tobytes() for image in pixels}) == 1350


@pytest.mark.parametrize("size", [16, 64, 96])
@BOTH
def test_images_have_the_size_asked_for_and_tissue_on_them(classes, size):
    pixels = images(opened(classes=classes, size=size), range(18))
    assert pixels.shape == (18, size, size, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std(axis=(1, 2)).mean() > 10


@pytest.mark.parametrize("index", [-1, 27])
def test_an_image_that_does_not_exist_is_an_error(index):
    with pytest.raises(IndexError, match="27"):
        opened(images=27).read(index)


# ── Splits ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("slides", [3, 45, 500])
@BOTH
def test_no_slide_stands_in_two_splits(classes, slides):
    rows = opened(classes=classes, slides=slides).rows
    splits_of = {
        group: {row.split for row in rows if row.group == group} for group in {r.group for r in rows}
    }
    assert {len(splits) for splits in splits_of.values()} == {1}
    assert len(splits_of) <= slides


@pytest.mark.parametrize("count", [27, 50, 100, 2700])
@BOTH
def test_every_split_holds_every_class_about_equally_often(classes, count):
    rows = opened(classes=classes, images=count).rows
    for split in SPLITS:
        often = Counter(row.label for row in rows if row.split == split)
        assert set(often) == set(range(classes))
        assert max(often.values()) - min(often.values()) <= 1


def test_the_splits_are_about_70_10_and_20_per_cent():
    often = Counter(row.split for row in opened(images=2700).rows)
    assert often == {"train": 1890, "val": 270, "test": 540}


def test_every_slide_shows_every_tissue():
    rows = opened(images=2700, slides=45).rows
    assert len({(row.group, row.label) for row in rows}) == 45 * 9


def test_the_test_slides_are_stained_as_no_training_or_validation_slide_is():
    slides = slide_colours(*painted(9))
    # Along this line of colours neither the amounts of the dyes nor the tissues matter much.
    hue = {split: [colour[2] + 0.36 * colour[0] for colour in colours] for split, colours in slides.items()}
    assert max(hue["test"]) < min(hue["train"] + hue["val"]) - 0.01
    assert min(hue["train"]) - 0.01 < min(hue["val"])
    assert max(hue["val"]) < max(hue["train"]) + 0.01


def slide_colours(samples, pixels):
    """For each split the slides' mean optical densities (less the glass's), as shares of the three colours."""
    indices = {}
    for index, row in enumerate(samples.rows):
        indices.setdefault((row.split, row.group), []).append(index)
    slides = {split: [] for split in SPLITS}
    for (split, _), members in sorted(indices.items()):
        density = -np.log(np.maximum(pixels[members], 1) / 255).reshape(-1, 3)
        stained = density.mean(axis=0) - np.percentile(density, 2, axis=0)
        slides[split].append(stained / stained.sum())
    return slides


# ── Hard enough ─────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_colours_alone_do_not_tell_the_classes_of_the_test_split(classes):
    samples, pixels = painted(classes)
    histograms = colour_histograms(pixels)
    labels = np.array([row.label for row in samples.rows])
    split = np.array([row.split for row in samples.rows])
    baseline = LogisticRegression(C=100, max_iter=2000)
    baseline.fit(histograms[split == "train"], labels[split == "train"])
    accuracy = baseline.score(histograms[split == "test"], labels[split == "test"])
    assert 1 / classes < accuracy < 0.7


def colour_histograms(pixels):
    """The share of pixels in each sixteenth of red, of green and of blue."""
    levels = pixels.reshape(len(pixels), -1, 3) // 16
    return np.concatenate([(levels == level).mean(axis=1) for level in range(16)], axis=1)


# ── Tumour in the centre ────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def masks():
    """Where tumour lies in 300 patches without and 300 with tumour in the centre; and the central third."""
    canvases = [Canvas(48, seed) for seed in range(300)]
    without = np.stack([scenes.tumour_mask(canvas, within=False) for canvas in canvases])
    within = np.stack([scenes.tumour_mask(canvas, within=True) for canvas in canvases])
    centre = np.zeros((48, 48), bool)
    centre[16:32, 16:32] = True
    return without, within, centre


def test_a_tumour_patch_has_tumour_in_its_central_third(masks):
    _, within, centre = masks
    assert (within[:, centre].max(axis=1) == 1).all()


def test_a_normal_patch_has_none_in_its_central_third_and_often_some_outside(masks):
    without, _, centre = masks
    assert not without[:, centre].any()
    assert 0.4 < (without[:, ~centre].max(axis=1) == 1).mean() < 0.9


def test_the_amount_of_tumour_in_the_whole_patch_does_not_tell_the_classes_apart(masks):
    without, within, _ = masks
    amounts = np.concatenate([without, within]).mean(axis=(1, 2))
    tumour = np.arange(600) >= 300
    assert max(((amounts > limit) == tumour).mean() for limit in amounts) < 0.82


def test_the_classes_differ_in_the_centre_more_than_near_the_border():
    samples, pixels = painted(2)
    density = -np.log(np.maximum(pixels, 1) / 255).mean(axis=3)
    labels = np.array([row.label for row in samples.rows])
    centre = np.zeros((24, 24), bool)
    centre[8:16, 8:16] = True
    assert contrast(density[:, centre], labels) > 2 * contrast(density[:, ~centre], labels)


def contrast(density, labels):
    """How far apart the classes' mean densities lie, in units of their spread."""
    means = density.mean(axis=1)
    return abs(means[labels == 1].mean() - means[labels == 0].mean()) / means.std()
