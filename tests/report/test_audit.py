"""The report's section on the audit: findings, how far colour gets, how alike the splits look, quarantine."""

import importlib.util
import re
from dataclasses import replace
from pathlib import Path

import pytest

import report_example as example
from histoflow.report import render_page
from histoflow.report.audit import audit_content


def _pages():
    spec = importlib.util.spec_from_file_location("report_pages", Path(__file__).with_name("test_page.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = _pages()

PROBES = [
    {
        "by": by,
        "accuracy": {"value": value, "low": value - 0.02, "high": value + 0.02},
        "majority": 0.14,
        "balanced_accuracy": {"value": value - 0.01, "low": value - 0.03, "high": value + 0.01},
        "chance": 0.1111,
    }
    for by, value in (("mean colour", 0.52), ("colour histogram", 0.83))
]


def comparison(one, other, value, by_chance=None):
    return {
        "check": "shift",
        "severity": "ok" if value < 0.6 else "warning",
        "message": f"A plain classifier tells {other} from {one} with an AUC of {value}.",
        "setting": "shift",
        "images": 0,
        "examples": [],
        "figures": {
            "splits": [one, other],
            "auc": {"value": value, "low": value - 0.03, "high": min(value + 0.03, 1.0)},
            "families": {
                name: {"value": value - down, "low": value - down - 0.03, "high": value}
                for name, down in (("colour", 0.02), ("texture", 0.1), ("sharpness", 0.05))
            },
            "by_chance": by_chance,
            "differences": [],
        },
    }


def test_a_figure_that_nothing_bounds_is_shown_without_an_interval():
    bare = comparison("train", "val", 0.83)
    bare["figures"]["auc"] |= {"low": None, "high": None}
    probe = PROBES[0] | {"accuracy": {"value": 0.52, "low": None, "high": None}}
    shortcut = {"check": "colour_shortcut", "severity": "note", "message": "", "figures": {"probes": [probe]}}
    content = audit_content({"findings": [bare, shortcut]})
    assert content["comparisons"][0]["all"] == "0.830"
    assert content["probes"]["rows"][0]["figures"][0] == "0.520"
    assert content["comparison_picture"] is not None


FINDINGS = [
    {"check": "black", "severity": "ok", "message": "No image is black.", "setting": "black"},
    {"check": "rare_class", "severity": "note", "message": "Rare classes.", "setting": "classes"},
    {
        "check": "near_copies_in_val",
        "severity": "warning",
        "message": "3 images of val stand in train as well.",
        "setting": "leaks_into_val",
        "images": 3,
        "examples": ["slides/P02/tile_0017.png", "slides/P02/tile_0018.png"],
    },
    {
        "check": "colour_shortcut",
        "severity": "warning",
        "message": "Colour alone reaches a balanced accuracy of 0.82 on val.",
        "setting": "shortcuts",
        "figures": {"probes": PROBES},
    },
    comparison("train", "val", 0.52),
    comparison("val", "test", 0.93, [0.41, 0.66]),
    comparison("train", "test", 0.94),
]
QUARANTINE = [
    *(
        {
            "source": f"slides/P07/tile_{place:04}.png",
            "reason": f"the file ends early: {place + 100} of 8,310 bytes",
        }
        for place in range(70)
    ),
    {"source": "slides/P19/tile_0004.png", "reason": "all pixels are white"},
]


def results(folder, **changes):
    nine = example.nine_classes(folder)
    return replace(nine, data={**nine.data, "findings": FINDINGS, "quarantine": QUARANTINE, **changes})


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return render_page(results(tmp_path_factory.mktemp("audit")))


def rows_of(page, caption):
    return [[" ".join(cell.split()) for cell in row] for row in pages.rows_of(page, caption)]


def test_findings_stand_by_severity_and_what_was_fine_in_a_line(html):
    rows = rows_of(html, "What the audit found")[1:]
    assert [row[1] for row in rows] == ["warning"] * 4 + ["note"]
    assert rows[0][0] == "near copies in val"
    assert "slides/P02/tile_0017.png, slides/P02/tile_0018.png" in rows[0][2]
    assert rows[2][0] == "shift, val and test"
    text = pages.Page(html).text
    assert "Asked, and nothing found: black; shift, train and val." in text
    assert "audit 5 findings" in text


def test_colour_alone_stands_beside_guessing(html):
    head, mean, histogram, guessing = rows_of(html, "Plain classifiers that are told nothing")
    assert head == ["told", "accuracy", "balanced accuracy"]
    assert mean == ["mean colour", "0.520 (0.500 to 0.540)", "0.510 (0.490 to 0.530)"]
    assert histogram[1] == "0.830 (0.810 to 0.850)"
    assert guessing == ["guessing", "0.140", "0.111"]


def test_comparisons_stand_with_their_intervals_and_what_chance_comes_to(html):
    head, *rows = rows_of(html, "AUC of a plain classifier")
    assert head == ["splits", "all", "colour", "texture", "sharpness", "random cuts"]
    assert rows[0] == ["train and val", "0.520 (0.490 to 0.550)", "0.500", "0.420", "0.470", "–"]
    assert rows[1][0] == "val and test"
    assert rows[1][5] == "0.410 to 0.660"
    (alt,) = (image["alt"] for image in pages.Page(html).all("img") if image["alt"].startswith("AUC"))
    assert "val and test 0.930 (0.900 to 0.960)" in alt


def test_the_quarantine_is_summed_up_by_reason_and_listed(html):
    _, early, white = rows_of(html, "Why images were left out, and how many")
    assert early == ["the file ends early: … of … bytes", "70"]
    assert white == ["all pixels are white", "1"]
    assert len(rows_of(html, "Images that were left out, and why")) == 13
    assert "59 more are listed in the manifest" in html


def test_labels_that_go_together_show_areas(tmp_path):
    probe = {"by": "mean colour", "auc": {"value": 0.71, "low": 0.66, "high": 0.76}, "chance": 0.5}
    found = {"check": "colour_shortcut", "severity": "note", "message": "", "figures": {"probes": [probe]}}
    page = render_page(results(tmp_path, findings=[found]))
    assert rows_of(page, "Plain classifiers") == [
        ["told", "mean AUC"],
        ["mean colour", "0.710 (0.660 to 0.760)"],
        ["guessing", "0.500"],
    ]


def test_the_section_stays_whole_and_accessible(html):
    page = pages.Page(html)
    assert len(page.all("caption")) == len(page.all("table"))
    boxes = re.findall(r'<div class="scroll"[^>]*tabindex="0"[^>]*>\s*<table>', html)
    assert len(boxes) == html.count("<table>")


@pytest.mark.parametrize("key", ["check", "severity", "message", "setting", "figures", "examples", "images"])
def test_a_finding_may_lack_anything(key):
    found = audit_content({"findings": [{k: v for k, v in one.items() if k != key} for one in FINDINGS]})
    assert len(found["findings"]) >= 5
