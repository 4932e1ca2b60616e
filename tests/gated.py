"""A gate that was asked about the nine-class example of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import report_example as example
from histoflow import Results, files
from histoflow.evaluation.predictions import Predictions
from histoflow.retraining.gate import Gate, Pace, Verdict, compared, weigh
from histoflow.retraining.verdict_record import FILE, Judged


def write_gate(results: Results, share: float = 0.07, **gate: float | str) -> Verdict:
    """Against a champion whose probabilities are these with this share of chance in them."""
    chance = np.random.default_rng(1).dirichlet(np.ones(9), len(results.labels))
    ours = results.probabilities
    theirs = (1 - share) * ours + share * chance
    champion, challenger = (Predictions(probabilities=one, labels=results.labels) for one in (theirs, ours))
    metrics = {metric.name: (metric, metric.params()) for metric in example.ONE_LABEL_METRICS[:1]}
    main, settings = next(iter(metrics)), Gate.model_validate(gate)
    found = compared(champion, challenger, metrics=metrics, main=main)
    pace = Pace(champion=1.3, challenger=1.41, device="cpu")
    verdict = weigh(champion, challenger, found, example.NINE, settings, pace)
    keep(results.folder, verdict, settings, champion=3, images=len(results.labels), metric=main)
    return verdict


def keep(folder: Path, verdict: Verdict, gate: Gate | None = None, **told: object) -> None:
    """Write gate.json as a retraining does."""
    facts = {
        "name": "colon",
        "run": folder.name,
        "time": "2026-11-21T12:00:00+00:00",
        "gate": gate or Gate(),
        "champion": None,
        "champion_model": "9d" * 32,
        "data_changes": "",
        "verdict": verdict,
    }
    files.write_json(folder / FILE, Judged.model_validate(facts | told).model_dump(mode="json"))
