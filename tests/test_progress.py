"""Long work tells where it stands to whoever listens."""

from __future__ import annotations

import logging

import pytest

from histoflow import progress


def test_without_a_listener_progress_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "histoflow"), progress.track("Packing", total=3) as advance:
        advance(3)
    assert caplog.messages[0].startswith("Packing: 3 images in ")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_long_work_is_logged_now_and_then_with_its_recent_speed_and_figures(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    listener = progress.LogListener(every=30, clock=clock)
    with (
        caplog.at_level(logging.INFO, "histoflow"),
        listener.track("Epoch 3 of 10", 8000, "images") as advance,
    ):
        for images, loss in ((1000, "0.7"), (500, "0.6"), (500, "0.5"), (6000, "0.4")):
            listener.tell({"step": "1 of 2", "loss": loss})
            advance(images)
            clock.now += 20
    assert caplog.messages == [
        "Epoch 3 of 10: 2,000 of 8,000 images, 25 images/s, about 4 min 0 s left, step 1 of 2, loss 0.5",
        "Epoch 3 of 10: 8,000 images in 80.0 s",
    ]


def test_what_was_done_before_the_work_went_on_does_not_count_as_speed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    listener = progress.LogListener(every=30, clock=clock)
    with caplog.at_level(logging.INFO, "histoflow"), listener.track("Packing", None, "images") as advance:
        advance(100_000)
        clock.now += 30
        advance(60)
    assert caplog.messages[0] == "Packing: 100,060 images, 2.0 images/s"


def test_short_work_is_not_told_to_who_finds_it_not_worth_telling(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    listener = progress.LogListener(clock=clock, worth_telling=30)
    with caplog.at_level(logging.INFO, "histoflow"):
        with listener.track("Hashing", 9, "files"):
            clock.now += 29
        with listener.track("Packing", 9, "images"):
            clock.now += 31
    assert caplog.messages == ["Packing: 0 images in 31.0 s"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(4.2, "4 s"), (59.7, "1 min 0 s"), (754, "12 min 35 s"), (9000, "2 h 30 min")]
)
def test_durations_are_told_in_steps_that_a_reader_can_use(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


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
