"""A short model card in the usual form, beside the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from histoflow import Params, Reporter, Results, hookimpl


class CardParams(Params):
    intended: str = "Research on the classification of histopathology images like those it was trained on."
    """What the model is for."""
    not_for: str = "Not for diagnosis, and not for images of another kind, stain or magnification."
    """What it is not for."""
    contact: str = ""
    """Whom to ask."""


def write(params: CardParams, results: Results) -> Sequence[Path]:
    from histoflow.report.model_card import write_card

    words = {"intended": params.intended, "not_for": params.not_for, "contact": params.contact}
    return [write_card(results, **words)]


CARD = Reporter(
    name="model_card",
    summary="MODEL_CARD.md in the run's folder: intended use, data, figures, limits",
    params=CardParams,
    write=write,
)


@hookimpl
def histoflow_reporters() -> Iterable[Reporter[CardParams]]:
    return (CARD,)
