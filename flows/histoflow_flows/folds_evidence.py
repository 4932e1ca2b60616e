"""Evidence of a cross-validation on its flow run's page: the figures of each fold, their mean and spread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from histoflow.crossvalidation import CrossValidation, FoldsRecord
from histoflow.fold_results import FoldResult, summarise
from histoflow.markdown import plain
from histoflow.report import wording
from histoflow.report.wording import NOT_A_STANDARD_ERROR, plus_minus
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.posting import Poster
from histoflow_flows.evidence.wording import code, table

PROGRESS, FOLDS = "progress", "folds"


@contextmanager
def of_folds(begun: CrossValidation) -> Iterator[Callable[[], None]]:
    """Show the folds inside on the flow run's page; what it yields is to be called after each."""
    whose = owner()
    if whose is None:
        yield _nothing
        return
    with Poster(whose, run_log()) as poster:

        def refresh() -> None:
            record = begun.read()
            poster.show(PROGRESS, partial(_progress, record))
            if record.results:
                poster.show(FOLDS, partial(draw_folds, record))

        refresh()
        yield refresh


def _nothing() -> None: ...


def _progress(record: FoldsRecord) -> Card:
    done = len(record.results)
    return Card(
        PROGRESS, "progress", round(100 * done / record.folds, 1), f"**Folds**: {done} of {record.folds}"
    )


def draw_folds(record: FoldsRecord) -> Card:
    """A table for the folds that were held out and one for the test split."""
    summary = summarise(record.results).model_dump()
    first, spread = next(iter(summary["test"].items()))
    headline = (
        f"test {plain(first.replace('_', ' '))} **{plus_minus(spread)}** over {len(record.results)} folds"
    )
    parts = [
        headline,
        *(f"### {title}\n\n{_table(record, split, summary)}" for split, title in _TITLES.items()),
        NOT_A_STANDARD_ERROR,
        "Runs: " + ", ".join(code(result.run) for result in record.results),
    ]
    return Card(FOLDS, "markdown", "\n\n".join(parts), headline)


_TITLES = {"val": "Held-out folds", "test": "Test split"}


def _table(record: FoldsRecord, split: str, summary: dict[str, dict[str, dict[str, float | None]]]) -> str:
    names = list(summary[split])
    rows = [
        [str(result.fold), *(wording.figure(_figures(result, split).get(name)) for name in names)]
        for result in record.results
    ]
    rows.append(["**mean ± sd**", *(f"**{plus_minus(summary[split][name])}**" for name in names)])
    return table(["fold", *(plain(name.replace("_", " ")) for name in names)], rows, ("fold",))


def _figures(result: FoldResult, split: str) -> dict[str, float | None]:
    return result.val if split == "val" else result.test
