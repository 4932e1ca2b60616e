"""Posts cards from a thread of its own, so that no trouble with Prefect's server reaches the work."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from histoflow_flows.evidence.cards import Board, Card, Draw, Owner

EVERY = 5.0
"""Seconds between two updates of one card, at least."""
LAST_FLUSH = 10.0
"""Seconds that the end of the work may wait for the last cards; a third of it where the work failed."""
_DRAWING_MAY_TAKE = 0.02
"""The share of the time that drawing one card may take; a slow drawing comes less often."""
_LOOK_EVERY = 0.25
_TRY_AGAIN_AFTER = 2.0
_PATIENCE = httpx.Timeout(5.0, connect=3.0)

Log = logging.Logger | logging.LoggerAdapter[Any]


class Poster:
    """Takes cards without ever waiting, and brings the newest of each key to the page.

    What an outage of the server kept from it follows when the server answers.
    """

    def __init__(self, owner: Owner, log: Log, *, first_after: float = 0.0) -> None:
        self._board, self._log = Board(owner), log
        self._client: SyncPrefectClient | None = None
        self._wanted: dict[str, Draw] = {}
        self._posted: dict[str, Card] = {}
        first = time.monotonic() + first_after
        self._due: dict[str, float] = defaultdict(lambda: first)
        self._server_is_away = False
        self._closing, self._given_up = threading.Event(), threading.Event()
        context = copy_context()  # Prefect's settings are bound to it
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="evidence", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(LAST_FLUSH if error is None else LAST_FLUSH / 3)
        self._given_up.set()
        if self._thread.is_alive() and not self._server_is_away:
            self._log.warning(
                "The last figures did not reach this page in time; the run folder has them all."
            )

    def show(self, key: str, draw: Draw) -> None:
        """Have this card drawn and posted when its time comes; takes the place of one that still waits."""
        self._wanted[key] = draw

    def drop_unposted(self, key: str) -> None:
        """Forget a card that nobody has seen yet."""
        if key not in self._posted:
            self._wanted.pop(key, None)

    def _work(self) -> None:
        # Prefect's clients try again for minutes, during which a newer state would have to wait.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while not self._closing.wait(_LOOK_EVERY):
                now = time.monotonic()
                self._post([key for key in list(self._wanted) if self._due[key] <= now])
            while self._wanted and not self._given_up.is_set():
                self._post(list(self._wanted))
                self._given_up.wait(_LOOK_EVERY if self._wanted else 0)
            self._hang_up()

    def _post(self, keys: list[str]) -> None:
        for key in keys:
            draw = self._wanted.pop(key, None)
            card = self._drawn(key, draw) if draw else None
            if draw is None or card is None or card == self._posted.get(key):
                continue
            if not self._put(card):
                self._wanted.setdefault(key, partial(_same, card))  # unless there is a newer one by now
                return

    def _drawn(self, key: str, draw: Draw) -> Card | None:
        begun = time.monotonic()
        try:
            return draw()
        except Exception as error:
            self._log.warning("The card '%s' of this page could not be drawn: %r", key, error)
            return None
        finally:
            ended = time.monotonic()
            self._due[key] = ended + max(EVERY, (ended - begun) / _DRAWING_MAY_TAKE)

    def _put(self, card: Card) -> bool:
        try:
            self._board.put(self._connection(), card)
        except Exception as error:  # whatever it is, the work goes on
            self._tell_trouble(error)
            return False
        self._posted[card.key] = card
        if self._server_is_away:
            self._server_is_away = False
            self._log.info("The server answers again; this page is brought up to date.")
        return True

    def _tell_trouble(self, error: Exception) -> None:
        self._hang_up()
        again = time.monotonic() + _TRY_AGAIN_AFTER
        self._due.update({key: max(due, again) for key, due in self._due.items()})
        if not self._server_is_away:
            self._server_is_away = True
            self._log.warning(
                "This page cannot be updated now (%s: %s). The work goes on; the page follows when "
                "the server answers.",
                type(error).__name__,
                error,
            )

    def _connection(self) -> SyncPrefectClient:
        if self._client is None:
            client = get_client(sync_client=True, httpx_settings={"timeout": _PATIENCE})
            self._client = client.__enter__()
        return self._client

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.__exit__(None, None, None)


def _same(card: Card) -> Card:
    return card
