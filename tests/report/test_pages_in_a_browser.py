"""The report as a browser draws it: nothing sticks out, no image is broken, all text can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import page_faults
import report_example as example
from browser import COMMAND, Browser, browser
from gated import write_gate
from histoflow import Results, stages
from histoflow.evaluation.intervals import with_intervals
from histoflow.report import write_page
from support import small_experiment, trained

pytestmark = pytest.mark.skipif(COMMAND is None, reason="there is no chromium or google-chrome to draw pages")

PHONE, DESK = 360, 1200
PAPER = round((210 - 2 * 14) / 25.4 * 96)
"""What the margins of the page's style leave of A4."""
PLANTED = {
    "overflow": '<p style="width: 2000px">wide</p>',
    "broken image": '<img src="data:image/png;base64,AAAA" alt="a chart">',
    "image without alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" alt="">',
    "contrast: 1.61": '<p style="background: #fff"><span style="color: #ccc">pale</span></p>',
    "contrast: 2.44": '<p style="background: #fff; color: rgb(0 0 0 / 35%)">see-through</p>',
    "contrast: 1.16": '<p style="background: #fff; color: #eee; font-size: 40px">large, and pale</p>',
}
"""Each fault, and what shows it."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        "nine classes": write_page(_with_everything(folder / "nine")),
        "two classes": write_page(example.two_classes(_made(folder / "two"))),
        "several labels": write_page(example.several_labels(_made(folder / "several"))),
        "a run": _trained(folder / "home"),
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _with_everything(folder: Path) -> Results:
    """Intervals, and a gate that was not passed."""
    results = example.nine_classes(_made(folder))
    write_gate(results)
    metrics = {metric.name: (metric, metric.params()) for metric in example.ONE_LABEL_METRICS}
    scores, how = with_intervals(
        metrics, results.metrics, results.probabilities, results.labels, None, seed=1, draws=200
    )
    return replace(results, metrics=scores, intervals=how)


def _trained(home: Path) -> Path:
    """The report of a run with a gallery, a map, robustness and groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        experiment = small_experiment(
            evaluation={"robustness": True, "robustness_images": 40, "gallery": 2}, reports=["html"]
        )
        run = trained(experiment)
        stages.evaluate(run)
        stages.report(run)
    return run.folder / "report.html"


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize(
    ("which", "dark"),
    [
        ("nine classes", False),
        ("two classes", False),
        ("several labels", False),
        ("a run", False),
        ("a run", True),
    ],
)
def test_a_page_has_no_faults(
    opened: Browser, pages: dict[str, Path], which: str, width: int, dark: bool
) -> None:
    opened.open(pages[which], width, dark=dark)
    found = page_faults.look(opened)
    assert found["faults"] == []
    assert found["width"] == width
    assert found["images"] >= 3
    assert found["texts"] > 50


@pytest.mark.parametrize("which", ["nine classes", "several labels", "a run"])
def test_a_page_has_no_faults_on_paper(opened: Browser, pages: dict[str, Path], which: str) -> None:
    opened.open(pages[which], PAPER, printed=True)
    assert opened.value("getComputedStyle(document.querySelector('nav.contents')).display") == "none"
    found = page_faults.look(opened)
    assert (found["faults"], found["width"]) == ([], PAPER)


def test_the_run_shows_every_section(pages: dict[str, Path]) -> None:
    """Or the check above would have looked at less than it seems."""
    html = pages["a run"].read_text(encoding="utf-8")
    for place in ("calibration", "by_group", "robustness", "images", "map"):
        assert f'<section id="{place}">' in html
        assert f'href="#{place}"' in html


@pytest.mark.parametrize(("width", "height"), [(DESK, 900), (390, 844)])
def test_the_first_screen_tells_figures_verdict_and_data(
    opened: Browser, pages: dict[str, Path], width: int, height: int
) -> None:
    opened.open(pages["nine classes"], width, height)
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom".format
    ends = [opened.value(bottom(part)) for part in ("dl.headline", ".verdict", 'a[href="#quarantine"]')]
    assert ends == sorted(ends)
    assert ends[-1] <= height


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(opened: Browser, tmp_path: Path, fault: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>planted</title><p>Sound.</p>{PLANTED[fault]}")
    opened.open(page, PHONE)
    found = page_faults.look(opened)["faults"]
    assert len(found) == 1, found
    assert found[0].startswith(fault)


def test_a_plain_page_has_no_faults(opened: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>plain</title><p>Sound.</p>")
    opened.open(page, PHONE)
    assert page_faults.look(opened)["faults"] == []
