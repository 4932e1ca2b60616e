"""What is wrong with a data set's table before any image is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from histoflow.components import Facts, Row, Samples, Task, task_of
from histoflow.errors import DataError


def task_of_samples(samples: Samples) -> Task:
    return samples.task or task_of(samples.classes)


def refuse_contradictions(facts: Facts, samples: Samples) -> None:
    """Rows must fit one another, the classes, and what the data set states of itself."""
    rows = samples.rows
    if not rows or len(samples.classes) < 2:
        raise DataError(
            f"A data set needs images of two classes or more. Got {len(rows)} of {samples.classes}."
        )
    _refuse_strange_labels(samples)
    _refuse_one_class(samples)
    _refuse_other_files(samples)
    _refuse_half_grouped(rows)
    _refuse_strange_weights(rows)
    found: dict[str, Any] = {
        "classes": samples.classes,
        "task": task_of_samples(samples),
        "images": len(rows),
        "groups": rows[0].group is not None,
        "official_split": rows[0].split is not None,
    }
    for fact, value in found.items():
        stated = getattr(facts, fact)
        # Not stated is None, or False where the default says so: only what was claimed can be contradicted.
        if stated not in (None, False, value):
            raise DataError(
                f"The data contradict their data set's facts: {fact} is {value}, stated was {stated}."
            )


def _refuse_strange_labels(samples: Samples) -> None:
    task, classes = task_of_samples(samples), len(samples.classes)
    if task == "binary" and classes != 2:
        raise DataError(f"A binary task has two classes. Got {classes}: {', '.join(samples.classes)}.")
    fits = _are_labels if task == "multilabel" else _is_label
    strange = next((row for row in samples.rows if not fits(row.label, classes)), None)
    if strange is None:
        return
    if task == "multilabel":
        raise DataError(
            f"The label of {strange.source} must be a tuple of numbers from 0 to {classes - 1}, each once, "
            f"for its task is multilabel. Got {strange.label!r}."
        )
    raise DataError(f"The label of {strange.source} must be 0 to {classes - 1}. Got {strange.label!r}.")


def _refuse_one_class(samples: Samples) -> None:
    """What all images show, or none shows, cannot be learnt."""
    labels = (row.label if isinstance(row.label, tuple) else (row.label,) for row in samples.rows)
    found = {tuple(sorted(label)) for label in labels}
    if len(found) < 2:
        shown = ", ".join(samples.classes[number] for number in found.pop())
        raise DataError(
            f"The images of a data set must differ in which of {', '.join(samples.classes)} they show. "
            f"All {len(samples.rows)} show {shown or 'none'}. "
            f"Correct the labels, or add images of other classes."
        )


def _is_label(label: Any, classes: int) -> bool:
    return not isinstance(label, tuple) and 0 <= label < classes


def _are_labels(labels: Any, classes: int) -> bool:
    if not isinstance(labels, tuple) or len(set(labels)) != len(labels):
        return False
    return all(_is_label(label, classes) for label in labels)


def _refuse_other_files(samples: Samples) -> None:
    if samples.files is not None and len(samples.files) != len(samples.rows):
        raise DataError(
            f"The files of a data set must be one for each of its {len(samples.rows)} rows. "
            f"Got {len(samples.files)}. Leave files out where images are none."
        )


def _refuse_half_grouped(rows: Sequence[Row]) -> None:
    without = [row.source for row in rows if row.group is None]
    if without and len(without) < len(rows):
        raise DataError(
            f"Either every image has a group or none has. {len(without)} of {len(rows)} have none, "
            f"such as {', '.join(without[:3])}. Give them one each, or leave groups out."
        )


def _refuse_strange_weights(rows: Sequence[Row]) -> None:
    strange = next((row for row in rows if not (math.isfinite(row.weight) and row.weight > 0)), None)
    if strange is not None:
        raise DataError(
            f"The weight of {strange.source} must be a finite number above 0. Got {strange.weight}. "
            f"Leave the image out if it shall never be drawn."
        )
