"""What the report says of a gate: its decision at once, and every check with its figures."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import report_example as example
from gated import keep, write_gate
from histoflow import Score
from histoflow.errors import RunError
from histoflow.evaluation.predictions import Predictions
from histoflow.report import render_page
from histoflow.report.champion import champion_content, verdict_content
from histoflow.retraining import verdict_record
from histoflow.retraining.gate import Gate, first, first_of_its_line, incomparable
from histoflow.retraining.settled_record import Settled


@pytest.fixture
def nine(tmp_path):
    """With one figure only, which draws sooner."""
    return replace(example.nine_classes(tmp_path), metrics={"accuracy": Score(value=0.8)}, history=[])


def said(html):
    found = re.search(r'<p class="verdict">(.*?)</p>', html, flags=re.S)
    return in_words(found[1]) if found else None


def in_words(html):
    return " ".join(re.sub(r"<.*?>", " ", html).split())


def test_without_a_gate_the_page_says_nothing_of_one(nine):
    html = render_page(nine)
    assert said(html) is None
    assert 'id="champion"' not in html
    assert "champion" not in html.split("</style>")[1]


def test_the_first_screen_tells_the_decision_and_its_main_reason(nine):
    verdict = write_gate(nine)
    reasons = [check.words for check in verdict.checks if check.outcome == "unsure"]
    html = render_page(nine)
    assert verdict.decision == "hold"
    assert said(html).startswith(f"The gate, against the champion colon@3: hold for a person . {reasons[0]}")
    assert said(html).endswith(f"{len(reasons) - 1} further reasons")
    assert html.index('class="verdict"') < html.index('<div class="facts">')
    assert '<a href="#champion">Against the champion</a>' in html


def test_every_check_stands_with_its_figures(nine):
    verdict = write_gate(nine)
    told = champion_content(verdict_record.read(nine.folder))
    assert [(row.name, row.outcome) for row in told["rows"]] == [
        (check.name, check.outcome) for check in verdict.checks
    ]
    of_all, of_adipose, speed = told["rows"][0], told["rows"][1], told["rows"][-1]
    main, adipose = verdict.checks[0], verdict.checks[1]
    assert of_all.champion == f"{main.champion:.3f}"
    assert of_adipose.difference == f"{adipose.challenger - adipose.champion:+.3f}"
    assert of_adipose.interval == f"{adipose.low:+.3f} to {adipose.high:+.3f}"
    assert (speed.champion, speed.challenger, speed.difference) == ("1.3 ms", "1.41 ms", "–")
    assert told["compared"] == "This run and the champion colon@3 predicted the same 405 test images."
    unchanged = [check.words for check in verdict.checks[:-1] if check.low is None]
    assert told["notes"] == unchanged
    assert all("right on the very same images" in words for words in unchanged)


def test_one_that_passes_is_told_by_its_main_figure(nine):
    verdict = write_gate(nine, share=0.6, margin=0.5, class_margin=0.5, calibration_margin=0.9)
    told = verdict_content(verdict_record.read(nine.folder))
    assert (verdict.decision, told["decision"], told["further"]) == ("promote", "promote", 0)
    assert told["why"] == verdict.checks[0].words


def test_what_was_required_is_told(nine):
    write_gate(nine, require="better", slower=3)
    asked = champion_content(verdict_record.read(nine.folder))["asked"]
    assert "where accuracy is shown to be better," in asked
    assert asked.endswith("takes at most 3 times as long.")


def test_a_first_model_has_no_champion_to_be_held_against(nine):
    keep(nine.folder, first_of_its_line())
    html = render_page(nine)
    assert said(html) == "The gate: promote . There was no champion to compare with."
    assert 'id="champion"' not in html


def test_a_first_model_that_is_held_says_that_there_is_no_champion_and_then_what_a_person_decided(nine):
    blind = Predictions(probabilities=np.eye(9)[np.zeros(len(nine.labels), int)], labels=nine.labels)
    keep(nine.folder, first(blind, example.NINE, Gate()))
    when = "2026-11-21T12:00:00+00:00"
    settled = Settled(version="colon@1", what="reject", by="Ada", time=when, why="Blurred <b>slides</b>.")
    settled.write(nine.folder)
    one_class = nine.labels == 0
    little = replace(nine, labels=nine.labels[one_class], probabilities=nine.probabilities[one_class])
    html = render_page(replace(little, run={**nine.run, "warm_from": "colon@7"}))
    text = in_words(html.split("</style>")[1])
    assert "There is no champion of colon yet, so this run was compared with none." in text
    assert '<a href="#champion">The first of its name</a>' in html
    assert "None" not in text
    assert "colon@1 was rejected by Ada, 21 November 2026, 12:00 UTC: Blurred &lt;b&gt;slides" in text
    assert "histoflow retrain experiment.yaml --name colon --warm-start --force" in text
    assert "began with colon@7" in text
    assert "histoflow train experiment.yaml" not in text


def test_a_champion_that_cannot_be_measured_is_told_with_the_reason(nine):
    keep(nine.folder, incomparable("It knows other classes.", Gate()), champion=3)
    html = render_page(nine)
    assert "hold for a person . It knows other classes." in said(html)
    assert "This run and the champion colon@3 could not be compared." in html


def test_a_damaged_verdict_is_an_error_and_no_silence(nine):
    (nine.folder / "gate.json").write_text(json.dumps({"schema_version": 1, "name": "colon"}))
    with pytest.raises(RunError, match=r"gate\.json is missing or damaged"):
        render_page(nine)
    (nine.folder / "gate.json").write_text(json.dumps({"schema_version": 99}))
    with pytest.raises(RunError, match="99"):
        render_page(nine)
