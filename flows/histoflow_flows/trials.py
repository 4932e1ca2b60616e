"""The trials of a study as Prefect tasks, and the loop that keeps so many of them at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed
from prefect.task_runners import TaskRunner

from histoflow import progress, stages
from histoflow.errors import HistoflowError, Stopped
from histoflow.progress import Advance, Figures, Listener
from histoflow.tuning.trial import Outcome, TrialOrder, outcome_of, train_trial
from histoflow.tuning.tuner import Tuner
from histoflow_flows.tasks import may_pass_with_time

LOOK_EVERY = 5.0
"""Seconds between two looks at whether a person cancelled the trial."""
LISTEN_EVERY = 0.2
"""Seconds that a signal may have to wait."""


class CancelledByHand(HistoflowError):
    """Somebody cancelled the task of a trial."""


class _TrialListener:
    """Names the trial beside its bars, and sends its lines to the task's own log."""

    def __init__(self, outer: Listener, name: str, log: Callable[..., Any]) -> None:
        self._outer, self._name, self._log = outer, name, log

    def track(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        return self._outer.track(f"{self._name}: {title}", total, unit)

    def tell(self, figures: Figures) -> None:
        """A bar for each of many trials is enough to look at."""

    def say(self, message: str) -> None:
        self._log("%s: %s", self._name, message)


@task(
    name="trial",
    task_run_name="{order.title}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=may_pass_with_time,
)
def trial(order: TrialOrder, packed: stages.Packed, place: int) -> Any:
    """Train one trial, on a GPU slot of its own where there are any; ``place`` numbers those at work."""
    from histoflow_flows.slots import gpu_slot

    listener = _TrialListener(progress.current(), f"trial {order.number}", get_run_logger().info)
    with gpu_slot(order.devices), progress.listening(listener):
        cancelled = _cancelled_by_hand()
        for _ in train_trial(order, packed, _device(place)):
            if next(cancelled):
                return Cancelled(message="Cancelled by hand; its run folder keeps the epochs so far.")
    outcome = outcome_of(order)
    return Completed(name="Pruned", data=outcome) if outcome.state == "pruned" else outcome


def _device(place: int) -> str | None:
    """GPUs are dealt out in turn; with one or none there is nothing to deal."""
    import torch

    visible = torch.cuda.device_count()
    return f"cuda:{place % visible}" if visible > 1 else None


def _cancelled_by_hand() -> Iterator[bool]:
    """Whether the server says that this task run was cancelled; a server that is away says nothing."""
    context, looked = TaskRunContext.get(), time.monotonic()
    while True:
        if context is None or time.monotonic() - looked < LOOK_EVERY:
            yield False
            continue
        looked = time.monotonic()
        try:
            with get_client(sync_client=True) as client:
                state = client.read_task_run(context.task_run.id).state
        except Exception as error:  # no trouble with the server may cost a trial
            get_run_logger().debug("Could not ask whether the trial was cancelled: %s", error)
            yield False
        else:
            yield state is not None and state.is_cancelled()


# ── Keeping trials at work ──────────────────────────────────────────────────────────────────────

Told = Callable[[], None]


def run_trials(tuner: Tuner, packed: stages.Packed, crew: TaskRunner[Any], told: Told) -> None:
    """Train trials, as many at once as the search allows, until the study wants no more.

    ``told`` is called after each one.
    """
    finished: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
    busy: dict[Any, tuple[TrialOrder, int]] = {}
    free = list(range(tuner.tuning.search.parallel))
    with progress.track("Trials", total=tuner.left(), unit="trials") as advance:
        while True:
            while free and (order := tuner.next()) is not None:
                future = crew.submit(trial, {"order": order, "packed": packed, "place": free[0]})
                busy[future.task_run_id] = order, free.pop(0)
                future.add_done_callback(finished.put)
            if not busy:
                return
            order, place = busy.pop((done := _first_of(finished)).task_run_id)
            free.append(place)
            _tell(tuner, order, _result_of(done))
            advance()
            told()


def _first_of(finished: SimpleQueue[PrefectFuture[Any]]) -> PrefectFuture[Any]:
    """The next one to end. A signal that reaches another thread does not end the waiting by itself."""
    while True:
        with suppress(Empty):
            return finished.get(timeout=LISTEN_EVERY)


def _result_of(future: PrefectFuture[Any]) -> Outcome | Exception:
    try:
        future.wait()
        state: State[Any] = future.state
        if state.is_cancelled():
            return CancelledByHand(state.message or "Cancelled by hand.")
        result = future.result(raise_on_failure=False)
    except Exception as error:  # the process that trained it is gone
        return error
    return result if isinstance(result, Outcome | Exception) else RuntimeError(f"the task ended as {state}")


def _tell(tuner: Tuner, order: TrialOrder, result: Outcome | Exception) -> None:
    if isinstance(result, Stopped):
        raise result  # asked to end: the trial goes on when the study does
    best_before = tuner.best()
    tuner.tell(order, result)
    progress.say(_line(tuner, order, result, best_before))


def _line(tuner: Tuner, order: TrialOrder, result: Outcome | Exception, best_before: Any) -> str:
    """What became of a trial, in one line."""
    if isinstance(result, Exception):
        return f"{order.title}  failed: {result}"
    figures = "  ".join(
        f"{name} {value:.4f}"
        for name, value in zip(order.objectives, result.values, strict=True)
        if value is not None
    )
    ended = f"  pruned after epoch {result.epochs}" if result.state == "pruned" else ""
    best = tuner.best()
    is_best = best is not None and best.number == order.number and best is not best_before
    return f"{order.title}  {figures}{ended}{'  ← best' if is_best else ''}"
