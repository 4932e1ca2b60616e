"""Which test images are shown as examples, and the file that keeps them: gallery.npz in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from histoflow.evaluation import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from histoflow.evaluation.fitting import Fitted

FILE = "gallery.npz"
LONGEST_SIDE = 160
"""Pixels of an image that is kept; larger ones are made smaller."""

Kind = Literal["right", "wrong", "unsure", "found", "false_alarm", "missed"]


@dataclass(frozen=True)
class Pick:
    """An image that is shown."""

    index: int
    """Where in the test split it stands."""
    kind: Kind
    of: int
    """Under which class it is shown: its own; of several labels the one that is looked at."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """The content of gallery.npz."""

    indices: NDArray[np.int64]
    """Where in the test split each image stands."""
    images: NDArray[np.uint8]
    """N×H×W×3."""
    maps: NDArray[np.float32]
    """M×h×w from 0 to 1: where the network looked. Empty where no layer tells."""
    map_rows: NDArray[np.int64]
    """Of which of the images each map is."""
    map_classes: NDArray[np.int64]
    """What speaks for which class it shows."""
    model: str = ""
    """The hash of the weights."""


# ── Choosing ────────────────────────────────────────────────────────────────────────────────────


def picked(
    calibrated: NDArray[np.float64], labels: NDArray[np.int64], fitted: Fitted, each: int
) -> list[Pick]:
    """Of each class so many of each kind, at most; of equals those that come first in the split."""
    told = fitted.told(calibrated)
    if labels.ndim == 2:
        return list(_of_several_labels(calibrated, labels, told, each))
    return list(_of_one_label(calibrated, labels, told, _margins(calibrated, fitted), each))


def _of_one_label(
    calibrated: NDArray[np.float64],
    labels: NDArray[np.int64],
    told: NDArray[np.int64],
    margins: NDArray[np.float64],
    each: int,
) -> Iterable[Pick]:
    sure = calibrated[np.arange(len(told)), told]
    for of in range(calibrated.shape[1]):
        own = labels == of
        yield from _first(own & (told == of), -sure, each, "right", of)
        yield from _first(own & (told != of), -sure, each, "wrong", of)
        yield from _first(own, margins, each, "unsure", of)


def _margins(calibrated: NDArray[np.float64], fitted: Fitted) -> NDArray[np.float64]:
    """How far each image is from being told another class."""
    if fitted.thresholds is not None:
        return np.abs(calibrated[:, 1] - fitted.thresholds[0])
    ascending = np.sort(calibrated, axis=1)
    return np.asarray(ascending[:, -1] - ascending[:, -2])


def _of_several_labels(
    calibrated: NDArray[np.float64], labels: NDArray[np.int64], told: NDArray[np.int64], each: int
) -> Iterable[Pick]:
    for of, (sure, shown, said) in enumerate(zip(calibrated.T, labels.T == 1, told.T == 1, strict=True)):
        yield from _first(shown & said, -sure, each, "found", of)
        yield from _first(~shown & said, -sure, each, "false_alarm", of)
        yield from _first(shown & ~said, sure, each, "missed", of)


def _first(
    among: NDArray[np.bool_], order: NDArray[np.float64], each: int, kind: Kind, of: int
) -> Iterable[Pick]:
    places = np.flatnonzero(among)
    chosen = places[np.argsort(order[places], kind="stable")[:each]]
    return (Pick(int(index), kind, of) for index in chosen)


# ── Keeping ─────────────────────────────────────────────────────────────────────────────────────


def to_show(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """N×H×W×C as colour images of no more than the longest side; of other than three channels their mean."""
    from PIL import Image

    if images.shape[3] != 3:
        grey = images.mean(axis=3, keepdims=True).round().astype(np.uint8)
        images = np.repeat(grey, 3, axis=3)
    height, width = images.shape[1:3]
    shrink = min(1.0, LONGEST_SIDE / max(height, width))
    if shrink == 1:
        return images
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    smaller = [np.asarray(Image.fromarray(image).resize(size)) for image in images]
    return np.array(smaller, np.uint8).reshape(len(images), size[1], size[0], 3)


def save(folder: Path, gallery: Gallery) -> None:
    arrays.save(folder / FILE, gallery)


def load(folder: Path) -> Gallery | None:
    """Of the run in this folder; None where it was evaluated without one."""
    try:
        return arrays.load(folder / FILE, Gallery)
    except FileNotFoundError:
        return None
