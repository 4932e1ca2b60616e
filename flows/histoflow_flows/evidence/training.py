"""Evidence of a training: how far it is, its epochs, its curves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from histoflow import registry
from histoflow.errors import Stopped
from histoflow.experiment import Experiment
from histoflow.progress import rate
from histoflow.report import wording
from histoflow.runs import Run
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.listening import Piece, listening
from histoflow_flows.evidence.posting import Poster
from histoflow_flows.evidence.wording import figure, image, time_left
from histoflow_flows.evidence.work import PROGRESS, card_of

EPOCHS, CURVES = "epochs", "curves"
_ENOUGH_TO_TELL = 0.02
"""The share of the first epoch from which on the time of the others can be told."""
_RECENT = 3
"""Epochs whose time tells how long the next ones take."""


@dataclass(frozen=True)
class _Mark:
    """Where the work stood when the card was drawn."""

    piece: Piece | None = None
    done: int = 0
    moment: float = 0.0


class Training:
    """Watches the training of a run: of its pieces, those in images are its epochs."""

    def __init__(self, experiment: Experiment, run: Run, poster: Poster) -> None:
        # Imported here, and not when a card is drawn: two threads must not import torch at once.
        from histoflow.best import best_epoch
        from histoflow.experiment import higher_is_better

        self._experiment, self._run, self._poster = experiment, run, poster
        self._monitor = experiment.training.monitored
        self._rises = higher_is_better(experiment.training.monitor, registry.installed())
        self._best_epoch_of = best_epoch
        self._piece: Piece | None = None
        self._history = run.history()
        self._ends: list[float] = []
        self._outcome = ""
        self._drawn = _Mark()
        if self._history:
            self._show_epochs()

    def epoch(self) -> None:
        """Another epoch stands in the run's history."""
        self._ends.append(time.monotonic())
        self._history = self._run.history()
        self._piece = None
        self._show_epochs()

    def over(self, error: BaseException | None) -> None:
        """Training ended, because all was done or by an error."""
        self._piece = None
        self._outcome = _outcome(error)
        self._poster.show(PROGRESS, self._draw_progress)

    def began(self, piece: Piece) -> None:
        self._piece = piece
        if piece.unit == "images" and not self._ends:
            self._ends.append(piece.begun)
        self.moved()

    def moved(self) -> None:
        self._poster.show(PROGRESS, self._draw_progress)

    def ended(self, piece: Piece) -> None:
        """The piece is shown until the next one: after the images of an epoch comes its validation."""

    def _show_epochs(self) -> None:
        self.moved()
        self._poster.show(EPOCHS, self._draw_epochs)
        self._poster.show(CURVES, self._draw_curves)

    def _draw_progress(self) -> Card:
        piece, history = self._piece, self._history
        if piece is not None and piece.unit != "images":
            return card_of(piece)
        done = len(history) + _share(piece)
        whole = self._outcome == "Trained"
        percent = 100.0 if whole else min(99.9, round(100 * done / self._experiment.training.epochs, 1))
        first, *parts = filter(None, (self._outcome, *self._where(piece, len(history)), *self._best(history)))
        return Card(PROGRESS, "progress", percent, " · ".join((f"**{first}**", *parts)))

    def _where(self, piece: Piece | None, finished: int) -> list[str]:
        epochs = self._experiment.training.epochs
        if self._outcome:
            return [f"{finished} of {epochs} epochs"]
        if piece is None or piece.total is None:
            return [f"{finished} of {epochs} epochs", *self._time_left(finished, finished)]
        return [
            f"epoch {finished + 1} of {epochs}",
            *self._time_left(finished, finished + _share(piece)),
            *(f"{name} {piece.figures[name]}" for name in ("step", "loss") if name in piece.figures),
            *self._speed(piece, self._drawn),
        ]

    def _speed(self, piece: Piece, before: _Mark) -> list[str]:
        """Since the card was last drawn; where that was in an earlier epoch, that of the last one."""
        self._drawn = _Mark(piece, piece.done, time.monotonic())
        if before.piece is piece:
            speed = (self._drawn.done - before.done) / (self._drawn.moment - before.moment)
        elif self._history:
            speed = self._history[-1]["images_per_second"]
        else:
            return []
        return [rate(speed, "images")]

    def _time_left(self, finished: int, done: float) -> list[str]:
        """From what the last epochs took with their validation; in the first one, from its share."""
        recent = self._ends[-_RECENT - 1 :]
        if len(recent) > 1:
            an_epoch = (recent[-1] - recent[0]) / (len(recent) - 1)
        elif done - finished > _ENOUGH_TO_TELL:
            an_epoch = (time.monotonic() - self._ends[0]) / (done - finished)
        else:
            return []
        left = self._experiment.training.epochs - done
        return [time_left(left * an_epoch)] if left > 0 else []

    def _best(self, history: Sequence[Mapping[str, Any]]) -> list[str]:
        epoch = self._best_epoch(history)
        if epoch is None:
            return []
        return [f"best: epoch {epoch}, {_title(self._monitor)} {figure(history[epoch - 1][self._monitor])}"]

    def _best_epoch(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        return self._best_epoch_of(history, self._monitor, self._rises) if history else None

    def _draw_epochs(self) -> Card:
        history = self._history
        rows = table_rows(history, self._best_epoch(history))
        count = wording.count(len(rows), "epoch", "epochs")
        note = f"{count}, ★ the best · metrics are of the validation split"
        return Card(EPOCHS, "table", json.dumps(rows), note)

    def _draw_curves(self) -> Card:
        from histoflow.report.pictures import training_pictures

        history = self._history
        pictures = training_pictures(history, self._best_epoch(history))
        shown = [f"**{picture.caption}**\n\n{image(picture.source, picture.alt)}" for picture in pictures]
        return Card(CURVES, "markdown", "\n\n".join(shown), " ".join(self._best(history)))


def table_rows(history: Sequence[Mapping[str, Any]], best: int | None) -> list[dict[str, str]]:
    """One row an epoch, the newest first, in figures of three digits."""
    return [_row(entry, entry["epoch"] == best) for entry in reversed(history)]


def _row(entry: Mapping[str, Any], is_best: bool) -> dict[str, str]:
    figures = {
        _column(name): figure(value)
        for name, value in entry.items()
        if name == "train_loss" or name.startswith("val_")
    }
    lr, speed = entry.get("lr"), entry.get("images_per_second")
    return {
        "epoch": f"{entry['epoch']}{' ★' if is_best else ''}",
        **figures,
        "lr": "–" if lr is None else f"{lr:.3g}",
        "time": f"{entry['seconds']:.1f} s",
        "images/s": "–" if speed is None else f"{speed:,.0f}",
    }


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "Trained"
    return "Stopped" if isinstance(error, Stopped) else f"Stopped by {type(error).__name__}"


def _share(piece: Piece | None) -> float:
    return min(1.0, piece.done / piece.total) if piece and piece.total else 0.0


def _column(name: str) -> str:
    """The metrics without what the note beneath the table says of all of them: columns are narrow."""
    return _title(name if name.endswith("_loss") else name.removeprefix("val_"))


def _title(name: str) -> str:
    return name.replace("_", " ")


class _Nobody:
    """Stands in where no flow runs."""

    def epoch(self) -> None: ...


@contextmanager
def of_training(experiment: Experiment, run: Run) -> Iterator[Training | _Nobody]:
    """Show the training inside on the flow run's page; it is to be told of each epoch."""
    whose = owner()
    if whose is None:
        yield _Nobody()
        return
    log = run_log()
    with Poster(whose, log) as poster:
        training = Training(experiment, run, poster)
        try:
            with listening(log, training):
                yield training
        except BaseException as error:
            training.over(error)
            raise
        training.over(None)
