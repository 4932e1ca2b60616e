"""Long work tells where it stands to whoever listens."""

from __future__ import annotations

import logging

import pytest

from histoflow import progress


def test_without_a_listener_progress_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "histoflow"), progress.track("Packing", total=3) as advance:
        advance(3)
    assert caplog.messages[0].startswith("Packing: 3 images in ")


def test_long_work_is_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    seconds = iter(range(0, 1000, 20))
    listener = progress.LogListener(every=30, clock=lambda: float(next(seconds)))
    with caplog.at_level(logging.INFO, "histoflow"), listener.track("Packing", 9, "images") as advance:
        for _ in range(4):
            advance()
    assert [message.split(" in ")[0] for message in caplog.messages] == [
        "Packing: 2 of 9 images",
        "Packing: 4 of 9 images",
        "Packing: 4 images",
    ]


def test_work_that_fails_is_not_told_as_done(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "histoflow"), pytest.raises(RuntimeError), progress.track("Packing"):
        raise RuntimeError
    assert caplog.messages == []


def test_a_batch_counts_once_it_has_been_worked_on() -> None:
    counts: list[int] = []
    batches = progress.counted([("images", [0, 1]), ("images", [1])], counts.append)
    next(batches)
    assert counts == []
    assert [len(labels) for _, labels in batches] == [1]
    assert counts == [2, 1]
