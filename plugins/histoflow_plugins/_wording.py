"""Why a figure is None, in words. Classes are told by their numbers, as in the labels."""

from __future__ import annotations

from collections.abc import Sequence

from histoflow import Score

Figures = tuple[float | None, ...]

NO_IMAGES = "there are no images"


def nothing(classes: int) -> Score:
    """What is said of a split without images."""
    return Score(value=None, per_class=(None,) * classes, undefined=NO_IMAGES)


def missing(figures: Figures) -> list[int]:
    return [index for index, figure in enumerate(figures) if figure is None]


def about(classes: Sequence[int], one: str, many: str) -> str:
    """'class 3 has …' or 'classes 3 and 5 have …', or nothing where there are no such classes."""
    if len(classes) < 2:
        return "".join(f"class {index} {one}" for index in classes)
    *head, last = map(str, classes)
    return f"classes {', '.join(head)} and {last} {many}"


def joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))
