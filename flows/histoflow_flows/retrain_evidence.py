"""Evidence of a retraining on its flow run's page: the change record."""

from __future__ import annotations

from histoflow.retraining import deciding
from histoflow.runs import Run
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.posting import Poster

KEY = "change-record"


def show_record(run: Run) -> None:
    """Show what was decided about the run; nothing outside a flow run."""
    whose, text = owner(), deciding.written(run)
    if whose is None or not text:
        return
    title = text.splitlines()[0].lstrip("# ")
    with Poster(whose, run_log()) as poster:
        poster.show(KEY, lambda: Card(KEY, "markdown", text, title))
