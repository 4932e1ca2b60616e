"""What the terminal shows of work under way."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from histoflow import progress
from histoflow.report.wording import with_class_names
from histoflow_flows import display

FIGURES = {
    "step": "41 of 1,000",
    "loss": "0.412",
    "training": "12 min 35 s left",
    "GPU memory": "12.1 of 140 GB",
    "val_accuracy": "0.812",
    "best": "0.840 in epoch 2",
}


def terminal(width: int, clock: Callable[[], float] | None = None) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, get_time=clock)


def drawn(bars: display.RichListener, width: int) -> list[str]:
    console = terminal(width)
    console.print(*bars._bars.get_renderables(), sep="\n")
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
def test_bars_and_figures_keep_within_the_terminal_and_break_none(width: int) -> None:
    bars = display.RichListener(terminal(width))
    with bars.track("Epoch 3 of 10", 128_000, "images") as advance:
        bars.tell(FIGURES)
        advance(40_000)
        bar, *lines = drawn(bars, width)
    assert bar.startswith("⠋ Epoch 3 of 10 ━")
    assert "40,000/128,000" in bar
    assert all(len(line) <= width for line in lines)
    assert len(lines) == 2
    assert [figure for line in lines for figure in line.strip().split(" · ")] == [
        f"{name} {value}" for name, value in FIGURES.items()
    ]


def test_a_bar_tells_the_speed_and_the_time_left() -> None:
    now = 0.0
    bars = display.RichListener(terminal(100, lambda: now))
    with bars.track("Packing", 8000, "images") as advance:
        advance(1000)
        now = 10.0
        advance(1000)
        assert drawn(bars, 100)[0].endswith("2,000/8,000 100 images/s 0:01:00 left")


def test_figures_go_when_the_work_is_over_and_bars_with_their_piece() -> None:
    bars = display.RichListener(terminal(80))
    with bars.track("Epoch 1 of 1", 10, "images"):
        bars.tell(FIGURES)
    assert len(drawn(bars, 80)) == 2, "during validation the figures stay"
    bars.tell({})
    assert "".join(drawn(bars, 80)) == ""


def test_brackets_in_titles_and_lines_stay_what_they_are() -> None:
    console = terminal(80)
    bars = display.RichListener(console)
    with bars.track("Hashing [red]", None, "files"):
        bars.say("[bold] of it")
        assert "Hashing [red]" in drawn(bars, 80)[0]
    assert "[bold] of it" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("dumb", [True, False])
def test_where_nothing_can_be_drawn_there_are_plain_lines(dumb: bool) -> None:
    environment = {"TERM": "dumb" if dumb else "xterm"}
    console = Console(file=io.StringIO(), force_terminal=dumb, _environ=environment)
    with display.showing(console) as listener, progress.listening(listener):
        with progress.track("Epoch 1 of 3", 10) as advance:
            progress.tell(FIGURES)
            advance(10)
        progress.say("Epoch 1/3  " + "train_loss 0.1234  " * 9)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.splitlines() == ["Epoch 1/3  " + "train_loss 0.1234  " * 9], (
        "short work, and one whole line"
    )
    assert "\x1b" not in printed


def test_in_a_terminal_there_are_bars() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    with display.showing(console) as listener:
        assert isinstance(listener, display.RichListener)


SCORES = {
    "classes": ["normal [1]", "tumor"],
    "scores": {
        "accuracy": {
            "value": 0.953,
            "per_class": [0.9, None],
            "undefined": "class 1 has no images",
            "interval": [0.941, 0.964],
            "per_class_intervals": [[0.8, 0.95], None],
            "interval_note": "",
        },
        "top2": {"value": 0.99, "per_class": None, "undefined": ""},
    },
    "intervals": {"level": 0.95, "draws": 2000, "by": "group", "units": 45, "fewer_draws": {"top2": 200}},
}


def shown(metrics: dict[str, object]) -> str:
    console = terminal(80)
    console.print(display.scores(metrics, "Test figures of small"))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_test_figures_have_their_intervals_and_it_is_said_how_they_came_about() -> None:
    text = shown(SCORES)
    assert "│ accuracy │ 0.953 (0.941 to 0.964) │" in text
    assert "│ top2     │ 0.990                  │" in text
    assert "│ normal [1] │    0.900 │" in text
    assert "95% intervals: bootstrap over 45 groups, 2,000 draws. Of top2: 200 draws." in text
    assert "accuracy: class tumor has no images" in text


def test_figures_of_a_run_from_before_there_were_intervals_are_shown_without() -> None:
    score = {"value": 0.99, "per_class": None, "undefined": ""}
    text = shown({"classes": ["normal", "tumor"], "scores": {"top2": score}})
    assert "│ top2   │ 0.990   │" in text
    assert "interval" not in text
    assert "normal" not in text, "no metric says anything of a class"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("no interval for class 1: it never varies", "no interval for class tumour: it never varies"),
        (
            "no interval for overall, class 0 and class 1: …",
            "no interval for overall, class a \\1 and class tumour: …",
        ),
        ("classes 0, 1 and 7 have no images", "classes a \\1, tumour and 7 have no images"),
        ("undefined in 3 of 2,000 resamples", "undefined in 3 of 2,000 resamples"),
    ],
)
def test_notes_tell_classes_by_name(note: str, said: str) -> None:
    assert with_class_names(note, ["a \\1", "tumour"]) == said
