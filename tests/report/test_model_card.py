"""The model card says what the run's files say, and nothing that a stranger's text could make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

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
