"""Evidence of work in pieces: a line at the end of each, and a progress bar for the long ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from histoflow.progress import amount, rate
from histoflow_flows.evidence.cards import Card
from histoflow_flows.evidence.context import owner, run_log
from histoflow_flows.evidence.listening import Piece, listening
from histoflow_flows.evidence.posting import EVERY, Log, Poster
from histoflow_flows.evidence.wording import time_left

PROGRESS = "progress"


class Pieces:
    """Shows the piece of work under way, and logs each that ended."""

    def __init__(self, poster: Poster, log: Log) -> None:
        self._poster, self._log = poster, log
        self._piece = Piece("", None, "")

    def began(self, piece: Piece) -> None:
        self._piece = piece

    def moved(self) -> None:
        self._poster.show(PROGRESS, self._draw)

    def ended(self, piece: Piece) -> None:
        self._log.info("%s: %s %s in %.1f s", piece.title, f"{piece.done:,}", piece.unit, piece.seconds)
        self._poster.drop_unposted(PROGRESS)

    def _draw(self) -> Card:
        return card_of(self._piece)


@contextmanager
def of_work() -> Iterator[None]:
    """Show the progress of what runs inside, and send what it says to the flow run's log."""
    whose = owner()
    if whose is None:
        yield
        return
    log = run_log()
    # A piece that ends sooner is not worth a card.
    with Poster(whose, log, first_after=EVERY) as poster, listening(log, Pieces(poster, log)):
        yield


def card_of(piece: Piece) -> Card:
    done, total = piece.done, piece.total
    share = min(1.0, done / total) if total else 0.0
    speed = done / max(piece.seconds, 1e-9)
    parts = [f"**{piece.title}**", f"{amount(done, total)} {piece.unit}", rate(speed, piece.unit)]
    if total and 0 < done < total:
        parts.append(time_left((total - done) / speed))
    return Card(PROGRESS, "progress", round(100 * share, 1), " · ".join(parts))
