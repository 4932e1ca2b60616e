"""What a cross-validation came to: the figures of each fold, and their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict

Figures = Mapping[str, float | None]
"""By name; None where a figure is undefined."""


class FoldResult(BaseModel):
    """One fold that was trained and evaluated."""

    model_config = ConfigDict(frozen=True)

    fold: int
    run: str
    """The id of its run."""
    train_images: int
    val_images: int
    test_images: int
    best_epoch: int
    epochs: int
    val: dict[str, float | None]
    """val_loss and every metric on the fold that was held out, in the epoch that was kept."""
    test: dict[str, float | None]
    """Every metric on the test split."""


class Spread(BaseModel):
    """A figure over the folds."""

    model_config = ConfigDict(frozen=True)

    mean: float | None
    """None where no fold has the figure."""
    sd: float | None
    """The sample standard deviation; None of fewer than two."""
    n: int
    """In how many folds the figure is defined."""


class Summary(BaseModel):
    """All folds together."""

    model_config = ConfigDict(frozen=True)

    val: dict[str, Spread]
    test: dict[str, Spread]


def summarise(results: Sequence[FoldResult]) -> Summary:
    return Summary(
        val=_spreads([result.val for result in results]), test=_spreads([result.test for result in results])
    )


def _spreads(figures: Sequence[Figures]) -> dict[str, Spread]:
    names = dict.fromkeys(name for one in figures for name in one)
    return {name: spread([one.get(name) for one in figures]) for name in names}


def spread(values: Sequence[float | None]) -> Spread:
    """Mean and sample standard deviation of the values that are defined."""
    defined = [value for value in values if value is not None]
    return Spread(
        mean=fmean(defined) if defined else None,
        sd=stdev(defined) if len(defined) > 1 else None,
        n=len(defined),
    )
