"""What is wrong with a data set's table before any image is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from histoflow import DataError, Facts, Row, Samples
from histoflow.data.contradictions import refuse_contradictions


def samples(*labels: Any, **fields: Any) -> Samples:
    rows = [Row(label=label, source=f"image-{index}") for index, label in enumerate(labels)]
    return Samples(classes=("a", "b"), rows=rows, read=lambda _: np.zeros((8, 8, 3), np.uint8), **fields)


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (samples(1, 1, 1), "All 3 show b"),
        (samples((0, 1), (1, 0), task="multilabel"), "All 2 show a, b"),
        (samples((), (), task="multilabel"), "All 2 show none"),
    ],
)
def test_images_that_all_show_the_same_are_refused(made: Samples, shown: str) -> None:
    with pytest.raises(DataError) as caught:
        refuse_contradictions(Facts(), made)
    assert f"must differ in which of a, b they show. {shown}. Correct the labels" in str(caught.value)


@pytest.mark.parametrize(
    "made", [samples(1, 0, 1), samples((0, 1), (1,), task="multilabel"), samples((), (0,), task="multilabel")]
)
def test_images_that_differ_are_accepted(made: Samples) -> None:
    refuse_contradictions(Facts(), made)
