"""Examined images for the tests of the audit's checks, made of a few figures and no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoflow.components import SPLITS
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.features import describe
from histoflow.data.audit.finding import Finding


def examined(
    labels: Any,
    splits: Sequence[str],
    pixels: NDArray[np.uint8] | None = None,
    groups: Sequence[str] | None = None,
    files: Mapping[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Examined:
    """The labels and splits as given; noise where no pixels are."""
    labels = np.asarray(labels)
    images = noise(len(labels)) if pixels is None else pixels
    several = labels.ndim == 2
    count = labels.shape[1] if several else int(labels.max()) + 1
    names = classes or tuple("abcdefghij"[:count])
    return Examined(
        task="multilabel" if several else "binary" if len(names) == 2 else "multiclass",
        classes=names,
        labels=labels,
        splits=np.array([SPLITS.index(split) for split in splits], np.int8),
        sources=[f"image-{place}" for place in range(len(labels))],
        groups=groups,
        hashes=np.array([b"%016d" % place for place in range(len(labels))], "S16"),
        features=describe(images),
        files={name: np.asarray(values, np.float64) for name, values in (files or {}).items()},
        images=lambda places: images[places],
    )


def noise(count: int, channels: int = 3, side: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), np.uint8)


def coloured(colours: Any, chance: np.random.Generator, spread: float = 30.0) -> NDArray[np.uint8]:
    """N×8×8×3 images about these N×3 colours."""
    pixels = chance.normal(np.asarray(colours)[:, None, None, :], spread, (len(colours), 8, 8, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def in_turn(count: int, *splits: str) -> list[str]:
    """These splits, over and over."""
    return [splits[place % len(splits)] for place in range(count)]


def only(answers: Any) -> Finding:
    """The finding of a check that gives one answer."""
    (answer,) = answers
    finding: Finding = answer.finding
    return finding
