"""Data sets: the facts hold for the opened samples, and images are what the contract says."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from histoflow.components import SPLITS, Dataset, Facts, Samples, task_of
from histoflow.errors import UnreadableImage
from histoflow.testing._common import calling, expect, leaving_global_chance_alone

MOST_IMAGES = 64


def check(dataset: Dataset[Any], params: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with calling(dataset, "facts"):
            facts = dataset.facts(params)
        expect(isinstance(facts, Facts), dataset, f"facts must return Facts. Got {facts!r}.")
        with calling(dataset, "fetch"):
            files = tuple(dataset.fetch(params, Path(folder)))
        missing = [str(path) for path in files if not Path(path).exists()]
        expect(not missing, dataset, f"fetch names files that are not there: {', '.join(missing)}.")
        with calling(dataset, "open"):
            samples, again = dataset.open(params, files), dataset.open(params, files)
        _check_table(dataset, facts, samples)
        expect(list(samples.rows) == list(again.rows), dataset, "the rows differ when it is opened again.")
        _check_images(dataset, facts, samples, again)


def _check_table(dataset: Dataset[Any], facts: Facts, samples: Samples) -> None:
    classes, rows = samples.classes, samples.rows
    expect(len(classes) > 1, dataset, f"needs two classes or more. Got {classes}.")
    expect(len(rows) > 0, dataset, "has no images.")
    _check_labels(dataset, samples)
    _check_fact(dataset, "classes", facts.classes, classes)
    _check_fact(dataset, "task", facts.task, samples.task or task_of(classes))
    _check_fact(dataset, "images", facts.images, len(rows))
    _check_splits(dataset, facts, samples)
    grouped = {row.group is not None for row in rows}
    expect(grouped == {facts.groups}, dataset, f"facts say groups={facts.groups}, and not every row agrees.")


def _check_labels(dataset: Dataset[Any], samples: Samples) -> None:
    several = samples.task == "multilabel"
    labels = {row.label for row in samples.rows}
    wrong = sorted(repr(label) for label in labels if isinstance(label, tuple) != several)
    form = "tuples of classes, for the task is multilabel" if several else "one number each"
    expect(not wrong, dataset, f"labels must be {form}. Got {', '.join(wrong[:5])}.")
    named = {number for label in labels for number in (label if isinstance(label, tuple) else (label,))}
    strange = sorted(named - set(range(len(samples.classes))))
    expect(not strange, dataset, f"labels must be 0 to {len(samples.classes) - 1}. Got {strange}.")


def _check_fact(dataset: Dataset[Any], fact: str, stated: Any, found: Any) -> None:
    expect(stated in (None, found), dataset, f"facts say {fact} {stated!r}. The samples have {found!r}.")


def _check_splits(dataset: Dataset[Any], facts: Facts, samples: Samples) -> None:
    splits = {row.split for row in samples.rows}
    if not facts.official_split:
        expect(splits == {None}, dataset, "facts say official_split=False, and rows have a split.")
        return
    expect(None not in splits, dataset, "facts say official_split=True, and some rows have no split.")
    expect("train" in splits, dataset, "no row is of the split 'train'.")
    strange = sorted(map(str, splits - set(SPLITS)))
    expect(not strange, dataset, f"splits must be train, val or test. Got {', '.join(strange)}.")


def _check_images(dataset: Dataset[Any], facts: Facts, samples: Samples, again: Samples) -> None:
    count = len(samples.rows)
    readable = 0
    for index in sorted({position * count // MOST_IMAGES for position in range(MOST_IMAGES)}):
        with calling(dataset, f"read({index})"), leaving_global_chance_alone(dataset):
            try:
                image, twin = samples.read(index), again.read(index)
            except UnreadableImage:
                continue
        readable += 1
        _check_image(dataset, facts, index, image)
        expect(np.array_equal(image, twin), dataset, f"read({index}) gives another image the second time.")
    expect(readable > 0, dataset, "not one of the images that were tried can be read.")


def _check_image(dataset: Dataset[Any], facts: Facts, index: int, image: Any) -> None:
    expect(
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3,
        dataset,
        f"read({index}) must return an H×W×C array of uint8. Got {_describe(image)}.",
    )
    _check_fact(dataset, "channels", facts.channels, image.shape[2])
    _check_fact(dataset, "size", facts.size, image.shape[:2])


def _describe(image: Any) -> str:
    return f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
