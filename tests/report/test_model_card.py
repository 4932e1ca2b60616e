"""The model card says what the run's files say, and nothing that a stranger's text could make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from histoflow import Results
from histoflow.report.model_card import write_card
from report_example import nine_classes, several_labels, two_classes

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
