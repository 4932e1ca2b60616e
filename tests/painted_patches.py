"""Painted patches as the audit is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from histoflow.data.audit.answer import Answer
from histoflow.data.audit.examined import Examined
from histoflow.data.audit.features import describe
from histoflow_plugins.tissue import NINE, TissueParams, read


@cache
def patches(side: int) -> NDArray[np.uint8]:
    count = 90 if side < 100 else 27
    params = TissueParams(size=side, images=count, seed=4)
    return np.stack([read(params, index) for index in range(count)])


def examined(
    images: NDArray[np.uint8],
    labels: Sequence[object] | None = None,
    splits: Sequence[int] | None = None,
    groups: Sequence[str] | None = None,
) -> Examined:
    """Of images that are all of the eighth class and in train, unless told otherwise."""
    count = len(images)
    return Examined(
        task="multilabel" if labels is not None and np.ndim(labels) == 2 else "multiclass",
        classes=NINE,
        labels=np.full(count, 7) if labels is None else np.asarray(labels),
        splits=np.zeros(count, np.int8) if splits is None else np.asarray(splits, np.int8),
        sources=[f"{index}.png" for index in range(count)],
        groups=groups,
        hashes=np.array([blake2b(image.tobytes(), digest_size=16).digest() for image in images], "S16"),
        features=describe(images),
        files={},
        images=lambda places: images[places],
    )


def by_check(answers: Sequence[Answer]) -> dict[str, Answer]:
    return {answer.finding.check: answer for answer in answers}
