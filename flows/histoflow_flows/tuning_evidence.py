"""Evidence of a search on its flow run's page: how far it is, and its trials, the best first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from histoflow.report import wording
from histoflow.report.tuning_data import Tried, TuningResults
from histoflow.report.tuning_page import best_first
from histoflow.tuning.results import snapshot
from histoflow.tuning.tuner import Tuner
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.posting import Poster

PROGRESS, TRIALS = "progress", "trials"
SHOWN = 200
"""A page that lists more trials is read by nobody; the report has them all."""


@contextmanager
def of_search(tuner: Tuner) -> Iterator[Callable[[], None]]:
    """Show the search inside on the flow run's page; what it yields is to be called after each trial."""
    whose = owner()
    if whose is None:
        yield _nothing
        return
    with Poster(whose, run_log()) as poster:

        def refresh() -> None:
            results = snapshot(tuner)
            left = tuner.left()
            poster.show(PROGRESS, lambda: _progress(results, left))
            poster.show(TRIALS, lambda: _trials(results))

        refresh()
        yield refresh
        refresh()


def _nothing() -> None: ...


def _progress(results: TuningResults, left: int) -> Card:
    done = sum(1 for trial in results.trials if trial.state != "running")
    parts = [f"**Searching**: {done} of {done + left} trials" if left else f"**Searched**: {done} trials"]
    parts += [_best(trial, results) for trial in results.trials if trial.number == results.best]
    return Card(PROGRESS, "progress", round(100 * done / max(1, done + left), 1), " · ".join(parts))


def _best(trial: Tried, results: TuningResults) -> str:
    figures = ", ".join(
        f"{name.replace('_', ' ')} {wording.figure(value)}"
        for name, value in zip(results.objectives, trial.values, strict=True)
    )
    return f"best: trial {trial.number}, {figures}"


def _trials(results: TuningResults) -> Card:
    rows = [_row(trial, results) for trial in best_first(results)[:SHOWN]]
    return Card(
        TRIALS, "table", json.dumps(rows), "The best trial first ★; then those pruned, failed, running."
    )


def _row(trial: Tried, results: TuningResults) -> dict[str, str]:
    values: Sequence[float | None] = trial.values or (None,) * len(results.objectives)
    return {
        "trial": f"{trial.number}{' ★' if trial.number == results.best else ''}",
        **{
            name.replace("_", " "): wording.figure(value)
            for name, value in zip(results.objectives, values, strict=True)
        },
        "settings": trial.label,
        "epochs": wording.NONE if trial.epochs is None else str(trial.epochs),
        "time": wording.NONE if trial.seconds is None else wording.duration(trial.seconds),
        "state": f"{trial.state}: {trial.error}" if trial.error else trial.state,
    }
