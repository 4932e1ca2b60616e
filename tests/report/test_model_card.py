"""The model card says what the run's files say, and nothing that a stranger's text could make of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from gated import write_gate
from histoflow import Results, Score
from histoflow.evaluation.scores import to_json
from histoflow.report.model_card import write_card
from histoflow.retraining.settled_record import Settled
from report_example import evaluated, nine_classes, several_labels, two_classes

WORDS = {"intended": "For research.", "not_for": "Not for diagnosis.", "contact": "lab@example.org"}


def card(results: Results) -> str:
    return write_card(results, **WORDS).read_text(encoding="utf-8")


def test_it_tells_use_data_figures_and_limits(tmp_path: Path) -> None:
    results = nine_classes(tmp_path)
    text = card(results)
    assert "Not a medical device" in text
    for word in ("For research.", "Not for diagnosis.", "lab@example.org", "smooth muscle"):
        assert word in text
    accuracy = results.metrics["accuracy"].value
    assert accuracy is not None
    assert f"| accuracy | {accuracy:.3f} |" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        f"## {name}"
        for name in (
            *("Model", "Intended use", "Data", "Training"),
            *("Figures on the test split", "Limits", "Reproduce"),
        )
    ]


@pytest.mark.parametrize("made", [nine_classes, two_classes, several_labels])
def test_each_table_has_as_many_cells_in_every_row(tmp_path: Path, made) -> None:
    tables: list[set[int]] = [set()]
    for line in card(made(tmp_path)).splitlines():
        if line.startswith("|"):
            tables[-1].add(line.count("|"))
        elif tables[-1]:
            tables.append(set())
    found = [cells for cells in tables if cells]
    assert len(found) >= 2
    assert all(len(cells) == 1 for cells in found)


def test_it_tells_what_the_evaluation_found_beside_the_scores(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    groups = np.array([f"{label}-{place % 4}" for place, label in enumerate(results.labels)])
    results = evaluated(results, groups, calibration="temperature", threshold="youden", coverage=0.8)
    worst = "The worst is strong blur: accuracy 0.612, which is -0.231."
    told = {**results.evaluation, "robustness": {"worst": worst}}
    text = card(replace(results, evaluation=told))
    before, after = (f"{told['calibration'][when]['ece']['value']:.3f}" for when in ("before", "after"))
    assert re.search(rf"\(ECE\) on the test split from {before}.* to {after}", text)
    assert f"Operating point: {told['operating']['thresholds'][0]:.3g} ({told['operating']['rule']})." in text
    low, high = told["sets"]["scores"]["coverage"]["interval"]
    assert (
        f"they hold it in {told['sets']['scores']['coverage']['value']:.3f} ({low:.3f} to {high:.3f})" in text
    )
    rows = [line for line in text.split("### By group")[1].split("###")[0].splitlines() if "accuracy" in line]
    ways = {way: found["scores"]["accuracy"] for way, found in told["aggregated"]["by"].items()}
    assert rows == [
        f"| {way} | accuracy | {score['value']:.3f} | {interval(score['interval'])} |"
        for way, score in ways.items()
    ]
    assert text.split("### Robustness")[1].split("##")[0].strip() == worst


def interval(ends: list[float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def test_few_groups_and_rare_classes_are_limits(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    split = {"images": 240, "counts": [220, 20], "groups": 4}
    text = card(replace(results, data={**results.data, "splits": {"test": split}}))
    assert "The test split holds images of 4 groups only" in text
    assert "fewer than 30 test images rest on little: tumor (20)" in text


def test_a_name_cannot_break_out_of_its_cell(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    text = card(replace(results, data={**results.data, "classes": ["a | b", "c\n# Medical device"]}))
    assert "| a \\| b |" in text
    assert "\n# Medical device" not in text


def test_what_strangers_wrote_makes_no_link_no_picture_and_no_html(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    classes = ["![p](http://e/p.png)", "<img src=x> & `code`"]
    strange = {"classes": classes, "licence": "[x](javascript:alert(1)) **b**"}
    text = card(replace(results, data={**results.data, **strange}))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    assert "<img" not in html
    assert "<a" not in html
    assert "![p](http://e/p.png), &lt;img src=x&gt; &amp; `code`" in html
    assert "licence: [x](javascript:alert(1)) **b**" in html


def test_only_further_models_of_the_run_itself_flatter_its_figures(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    flattering = "opened for 2 models of this run"
    looks = [{"model": "own"}, {"model": "theirs", "of": "colon@3"}]
    assert flattering not in card(replace(results, run={**results.run, "test_openings": looks}))
    looks.append({"model": "own too"})
    assert flattering in card(replace(results, run={**results.run, "test_openings": looks}))


def test_figures_of_classes_and_of_calibration_stand_with_their_intervals(tmp_path: Path) -> None:
    results = two_classes(tmp_path)
    recall = Score(value=0.9, per_class=(0.9, 0.8), per_class_intervals=((0.85, 0.95), None))
    errors = (Score(value=value, interval=(value / 2, value * 2)) for value in (0.06, 0.02))
    before, after = (to_json({"ece": error}, ())["scores"] for error in errors)
    told = {"calibration": {"temperature": 1.7, "before": before, "after": after}}
    text = card(replace(results, metrics={"recall": recall}, evaluation=told))
    assert "| recall | 0.900 | 0.900 (0.850 to 0.950) | 0.800 |" in text
    assert "from 0.060 (0.030 to 0.120) to 0.020 (0.010 to 0.040)." in text


def test_it_tells_what_the_gate_said_what_a_person_decided_and_what_training_began_from(
    tmp_path: Path,
) -> None:
    results = nine_classes(tmp_path)
    assert "```sh\nhistoflow train experiment.yaml\n```" in card(results)
    verdict = write_gate(results)
    when = "2026-11-21T12:00:00+00:00"
    Settled(version="colon@4", what="promote", by="Ada", time=when, why="Looked at.").write(tmp_path)
    text = card(replace(results, run={**results.run, "warm_from": "my_colon@3"}))
    reason = next(check.words for check in verdict.checks if check.outcome == "unsure")
    assert f"- gate, against the champion colon@3: hold for a person. {reason}" in text
    assert "- colon@4 was promoted by Ada, 21 November 2026, 12:00 UTC: Looked at." in text
    assert "\nhistoflow retrain experiment.yaml --name my_colon --warm-start --force\n" in text
    assert "Training began with the weights of my\\_colon@3" in text
    assert "- began with: my\\_colon@3" in text
