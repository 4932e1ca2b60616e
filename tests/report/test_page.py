"""The page says what the run found, opens offline, and trusts no text that it is given."""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import report_example as example
from histoflow import Score
from histoflow.errors import StorageError
from histoflow.report import render_page, write_page
from histoflow_plugins import html_report

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Refuses tags that do not nest, and collects what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words, self.captions = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for found, attrs in self.tags if found == tag]


@pytest.fixture
def nine(tmp_path):
    return example.nine_classes(tmp_path)


@pytest.fixture
def two(tmp_path):
    return example.two_classes(tmp_path)


def undrawn(results):
    """Without a history, and of images of one class: there is little to draw, which is what takes long."""
    first = results.labels == 0
    return replace(
        results, history=[], labels=results.labels[first], probabilities=results.probabilities[first]
    )


@pytest.fixture
def nine_undrawn(nine):
    return undrawn(nine)


@pytest.fixture
def two_undrawn(two):
    return undrawn(two)


@pytest.fixture(scope="module")
def nine_html(tmp_path_factory):
    """Drawn once, for the tests that only read it."""
    return render_page(example.nine_classes(tmp_path_factory.mktemp("nine")))


@pytest.fixture(scope="module")
def two_html(tmp_path_factory):
    return render_page(example.two_classes(tmp_path_factory.mktemp("two")))


@pytest.fixture(scope="module")
def several_html(tmp_path_factory):
    return render_page(example.several_labels(tmp_path_factory.mktemp("several")))


def page_of(results, **changes):
    return Page(render_page(replace(results, **changes)))


def rows_of(html, caption):
    """The cells of the table whose caption begins so."""
    table = next(part for part in html.split("<table>")[1:] if re.search(rf"<caption>{caption}", part))
    rows = re.findall(r"<tr.*?</tr>", table.split("</table>")[0], flags=re.S)
    cells = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, flags=re.S) for row in rows]
    return [[re.sub(r"<.*?>", " ", cell).strip() for cell in row] for row in cells]


@pytest.mark.parametrize("which", ["nine_html", "two_html", "several_html"])
def test_the_page_refers_to_nothing_outside(which, request):
    html = request.getfixturevalue(which)
    page = Page(html)
    for tag, attrs in page.tags:
        assert tag not in {"link", "script", "iframe", "object", "base"}
        assert all(value.startswith("data:") for key, value in attrs.items() if key == "src")
        assert all(value.startswith("#") for key, value in attrs.items() if key in {"href", "xlink:href"})
    assert not re.search(r"https?:|url\(|@import", html)
    policy = next(attrs for attrs in page.all("meta") if "http-equiv" in attrs)
    assert "default-src 'none'" in policy["content"]


@pytest.mark.parametrize("which", ["nine_html", "two_html", "several_html"])
def test_the_page_is_accessible(which, request):
    page = Page(request.getfixturevalue(which))
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    assert headings.count(1) == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)
    assert len(ids) == len(set(ids))


def test_what_can_overflow_scrolls_in_a_box_that_the_keyboard_reaches(nine_html):
    boxes = re.findall(r'<div class="scroll"[^>]*tabindex="0"[^>]*>\s*<table>', nine_html)
    assert len(boxes) == nine_html.count("<table>")


def test_of_several_labels_it_tells_each_class_and_draws_no_confusion_matrix(several_html, tmp_path):
    results = example.several_labels(tmp_path)
    shown, given = results.labels == 1, results.probabilities > 0.5
    rows = rows_of(several_html, "How many test images show each class")
    assert [row[0] for row in rows[1:]] == list(example.FINDINGS)
    found, said = (shown & given).sum(axis=0), given.sum(axis=0)
    assert [row[1:3] for row in rows[1:]] == [
        [str(images), str(right)] for images, right in zip(shown.sum(axis=0), found, strict=True)
    ]
    assert [row[4] for row in rows[1:]] == [str(number) for number in said]
    assert "Confusion matrix" not in several_html
    assert "each class against the images that do not show it" in several_html
    assert rows_of(several_html, "Each metric over 200 test images")
    assert "200 (test 200)" in Page(several_html).text, "fewer than the sum over the classes"


def test_it_says_what_was_asked_and_on_which_data(nine_html):
    text = Page(nine_html).text
    for said in (
        "colon tissue",
        "Run 20261121-120000-colon-3f2a, 21 November 2026, 12:00 UTC",
        "dataset tissue classes 9, images 2700, size 64, stain 0.4",
        "architecture resnet depth 18, pretrained no, width 64",
        "loss cross_entropy smoothing 0.1, weights none",
        "best epoch 7 of 10, val_loss 0.312",
        "2,709 (train 1,890, val 414, test 405)",
        "64 × 64 px, 3 channels",
        "train 30, val 6, test 6",
        "5ac1f09e5ac1f09e",
        "audit 2 findings",
        "quarantine 2 images",
        "opened once: evaluate, 21 November 2026, 12:04 UTC",
        "CC BY 4.0",
    ):
        assert said in text


def headline(html):
    """The overall figure of each metric, with its interval."""
    found = html.split('<dl class="headline">')[1].split("</dl>")[0]
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", found)
    return {name: " ".join(re.sub(r"<.*?>", " ", told).split()) for name, told in pairs}


def test_the_headline_is_the_first_six_metrics(nine, nine_html):
    first = list(nine.metrics.items())[:6]
    assert headline(nine_html) == {name.replace("_", " "): f"{score.value:.3f}" for name, score in first}
    assert "On 405 test images" in Page(nine_html).text


def test_each_metric_is_told_overall_and_per_class(nine, nine_html):
    heads, *rows = rows_of(nine_html, "Each metric over 405 test images")
    names = [f"{index} {name}" for index, name in enumerate(example.NINE)]
    assert [" ".join(head.split()) for head in heads] == ["", "overall", *names]
    metrics, counts = rows[: len(nine.metrics)], rows[len(nine.metrics) :]
    assert metrics == [
        [name.replace("_", " "), *(f"{figure:.3f}" for figure in (score.value, *score.per_class))]
        for name, score in nine.metrics.items()
    ]
    assert counts == [
        ["train images", "1,890", *["210"] * 9],
        ["val images", "414", *["46"] * 9],
        ["test images", "405", *["45"] * 9],
    ]


def test_many_classes_are_told_in_tables_that_fit_the_page(nine):
    rng = np.random.default_rng(3)
    labels, probabilities = np.repeat(np.arange(14), 5), rng.dirichlet(np.ones(14), 70)
    scores = {
        "f1": Score(value=0.5, per_class=tuple(index / 100 for index in range(14))),
        "kappa": Score(value=0.25),
    }
    html = render_page(replace(nine, data={}, labels=labels, probabilities=probabilities, metrics=scores))
    _, f1, kappa = rows_of(html, "Each metric over 70 test images")
    assert f1 == ["f1", "0.500", *(f"{index / 100:.3f}" for index in range(9))]
    assert kappa == ["kappa", "0.250", *["–"] * 9], "a metric that knows no classes"
    heads, *further = rows_of(html, "Further classes")
    assert [head.split()[0] for head in heads[1:]] == ["9", "10", "11", "12", "13"]
    assert further == [["f1", *(f"{index / 100:.3f}" for index in range(9, 14))]]


def test_the_contents_lead_to_the_sections_that_are_there(nine_html, several_html):
    def places(html):
        return [
            link["href"] for link in Page(html.split('<nav class="contents"')[1].split("</nav>")[0]).all("a")
        ]

    assert places(nine_html) == [
        "#figures", "#audit", "#training", "#confusion", "#classes", "#thresholds", "#reproduce",
    ]  # fmt: skip
    assert "#confusion" not in places(several_html)


def test_the_table_of_classes_tells_what_became_of_their_images(two):
    labels = np.array([0, 0, 0, 0, 1, 1])
    probabilities = np.eye(2)[[0, 0, 0, 1, 1, 1]]
    html = render_page(replace(two, labels=labels, probabilities=probabilities))
    _, normal, tumor = rows_of(html, "What became of each class")
    assert normal == ["normal", "4", "3", "75.0%", "3", "tumor (1, 25.0%)"]
    assert tumor == ["tumor", "2", "2", "100.0%", "3", "–"]


def test_findings_quarantine_configuration_and_plugins_are_listed(nine_html):
    html = nine_html
    assert rows_of(html, "What the audit found")[1] == [
        "duplicates across splits",
        "warning",
        "3 images of train are also in val; the first is slides/P02/tile_0017.png",
    ]
    assert rows_of(html, "Images that were left out")[2] == [
        "slides/P19/tile_0004.png",
        "all pixels are white",
    ]
    assert rows_of(html, "The plugins that took part")[1] == ["tissue", "histoflow", "0.1.0"]
    assert "architecture:\n  name: resnet\n  depth: 18\n  pretrained: false\n" in html
    assert "histoflow train experiment.yaml" in html
    assert "2.15.0" in html


def test_a_long_quarantine_is_counted_but_not_listed_whole(nine_undrawn):
    images = [{"source": f"tile_{index}.png", "reason": "blank"} for index in range(1234)]
    html = render_page(replace(nine_undrawn, data={**nine_undrawn.data, "quarantine": images}))
    assert "1,234 images" in html
    assert len(rows_of(html, "Images that were left out, and why. 1,222 more")) == 13


def test_figures_follow_the_classes_and_the_history(nine_html, two_html):
    assert [image["alt"].split(".")[0] for image in Page(nine_html).all("img")] == [
        "Line chart of the loss over 10 epochs",
        "Line chart of the validation metrics over 10 epochs",
        "Confusion matrix of 9 classes",
        "ROC curves",
        "Precision-recall curves",
    ]
    alts = [image["alt"] for image in Page(two_html).all("img")]
    assert len(alts) == 3
    assert alts[0].startswith("Confusion matrix of 2 classes. 202 of 240 images are right.")
    assert re.fullmatch(r"ROC curves\. Area under the curve: tumor 0\.\d{3}\.", alts[1])


def test_with_two_classes_it_says_whose_figure_the_overall_one_is(two_html):
    told = "precision, recall, specificity, f1, average precision"
    assert f"{told}: the overall figure is that of tumor." in Page(two_html).text


def test_an_undefined_figure_is_a_dash_with_its_reason(nine_undrawn):
    per_class = (None, *[0.5] * 8)
    scores = {"precision": Score(value=None, per_class=per_class, undefined="class 0 was never predicted")}
    html = render_page(replace(nine_undrawn, metrics=scores))
    assert headline(html) == {"precision": "–"}
    assert rows_of(html, "Each metric")[1][1:4] == ["–", "–", "0.500"]
    assert "precision: class 0 was never predicted." in Page(html).text


HOW = {"level": 0.95, "draws": 2000, "by": "group", "units": 45, "fewer_draws": {}}


def test_each_figure_that_has_an_interval_shows_it_and_how_it_came_about(nine_undrawn):
    score = Score(
        value=0.953,
        per_class=(0.5,) * 9,
        interval=(0.941, 0.964),
        per_class_intervals=(None, (0.4, 0.6), *[None] * 7),
        interval_note="no interval for class 0: it never varies",
    )
    html = render_page(replace(nine_undrawn, metrics={"f1": score}, intervals=HOW))
    assert headline(html) == {"f1": "0.953 0.941 to 0.964"}
    cells = [" ".join(cell.split()) for cell in rows_of(html, "Each metric")[1][1:4]]
    assert cells == ["0.953 0.941 to 0.964", "0.500", "0.500 0.400 to 0.600"]
    text = Page(html).text
    assert "95% intervals: bootstrap over 45 groups, 2,000 draws. " in text
    assert "f1: no interval for class 0: it never varies." in text
    assert "rough" not in text


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"units": 9}, "Of fewer than 10 groups, intervals are rough, and often too narrow."),
        ({"units": 1}, "There are no intervals, as all test images are of one group."),
        (
            {"by": "image"},
            "over 45 images, 2,000 draws. The data name no groups: if images share",
        ),
        ({"fewer_draws": {"top_2": 200}}, "2,000 draws. Of top 2: 200 draws."),
    ],
)
def test_what_weakens_the_intervals_is_said_under_the_figures(nine_undrawn, how, said):
    assert said in page_of(nine_undrawn, intervals=HOW | how).text


def test_a_report_of_figures_without_intervals_does_not_speak_of_any(nine_html):
    assert "interval" not in Page(nine_html).text


def test_what_holds_of_several_metrics_is_noted_once(nine_undrawn):
    same = Score(value=None, undefined="there are no images of it")
    text = page_of(nine_undrawn, metrics={"recall": same, "balanced_accuracy": same}).text
    assert "recall, balanced accuracy: there are no images of it." in text


def test_a_metric_without_figures_per_class_and_beyond_one(nine_undrawn):
    html = render_page(replace(nine_undrawn, metrics={"loss_in_euros": Score(value=12345.6)}))
    assert headline(html) == {"loss in euros": "12,346"}
    assert rows_of(html, "Each metric")[1] == ["loss in euros", "12,346", *["–"] * 9]


def test_a_split_of_one_class_has_no_roc_section(two):
    labels = np.zeros_like(two.labels)
    assert "ROC curves" not in page_of(two, labels=labels).text


def test_it_doubts_figures_that_are_not_of_the_test_split(nine, nine_html):
    assert "are not the test split" not in nine_html
    page = page_of(nine, labels=nine.labels[:100], probabilities=nine.probabilities[:100])
    assert "The 100 images scored here are not the test split of these data (405 images)" in page.text


def openings(*models):
    return {
        "test_openings": [
            {"time": f"2026-11-2{day}T12:00:00+00:00", "reason": f"look {day}", "model": model * 32}
            for day, model in enumerate(models)
        ]
    }


def test_it_warns_when_the_test_split_was_opened_for_several_models(two_undrawn):
    html = render_page(replace(two_undrawn, run=openings("ab", "cd")))
    assert "The test split was opened 2 times, for 2 models." in html
    assert rows_of(html, "Each time")[2] == ["21 November 2026, 12:00 UTC", "look 1", "cd" * 8]


def test_it_merely_notes_that_one_model_was_scored_again(two_undrawn):
    html = render_page(replace(two_undrawn, run=openings("ab", "ab", "ab")))
    assert "The test split was opened 3 times, always for this model." in html
    assert 'class="alert"' not in html


def test_the_look_at_the_champion_is_listed_and_warns_of_nothing(two_undrawn):
    looks = openings("ab", "cd")
    looks["test_openings"][1]["of"] = "colon@3"
    html = render_page(replace(two_undrawn, run=looks))
    assert "The test split was opened once: look 0, 20 November 2026, 12:00 UTC." in html
    assert rows_of(html, "Each time")[2] == ["21 November 2026, 12:00 UTC", "look 1", "cd" * 8]
    assert 'class="alert"' not in html


TOLD = {
    "run": {
        "id": "20261121-120000-colon-3f2a",
        "created": "21 November 2026, 12:00 UTC",
        "experiment": "stain_jitter",
        "environment": "2.15.0",
        "plugins": "The plugins that took part",
        "data_fingerprint": "ab" * 8,
        "test_openings": "The test split was opened once",
        "best": "best epoch 7",
    },
    "data": {
        "fingerprint": "5ac1f09e5ac1f09e",
        "size": "64 × 64 px",
        "splits": "2,709",
        "quarantine": "tile_0113.png",
        "findings": "tile_0017.png",
        "licence": "CC BY 4.0",
        "citation": "Kather",
    },
}
"""Of parts of the run and of the manifest, words that stand in the page for them alone."""


@pytest.mark.parametrize("part", ["run", "data"])
def test_every_part_of_the_run_and_the_manifest_is_optional(nine, two, two_undrawn, part):
    whole, told = getattr(nine, part), TOLD[part]
    for key in whole:
        text = page_of(two_undrawn, **{part: {name: whole[name] for name in whole if name != key}}).text
        assert {name for name, words in told.items() if words not in text} == told.keys() & {key}
    text = page_of(two, **{part: {}}, history=[], metrics={}).text
    assert not [words for words in told.values() if words in text]


def test_an_audit_that_found_nothing_differs_from_none(nine_undrawn):
    assert "Nothing found." in page_of(nine_undrawn, data={**nine_undrawn.data, "findings": []}).text
    assert "holds no audit" in page_of(nine_undrawn, data={}).text


def test_a_history_of_one_epoch_with_little_in_it(nine):
    assert "over 1 epoch." in page_of(nine, history=[{"epoch": 1, "train_loss": 1.0}]).all("img")[0]["alt"]


EVIL = '<script>alert("x")</script>'


def test_all_text_from_outside_is_escaped(nine_undrawn):
    data = {
        **nine_undrawn.data,
        "classes": [EVIL, *example.NINE[1:]],
        "licence": EVIL,
        "quarantine": [{"source": EVIL, "reason": EVIL}],
        "findings": [{"check": EVIL, "severity": EVIL, "message": EVIL}],
    }
    run = {
        **nine_undrawn.run,
        "name": EVIL,
        "id": EVIL,
        "created": EVIL,
        "experiment": {"dataset": {"name": EVIL, "path": EVIL}},
        "environment": {EVIL: EVIL},
        "plugins": [{"plugin": EVIL, "package": EVIL, "version": EVIL}],
    }
    html = render_page(
        replace(nine_undrawn, run=run, data=data, metrics={EVIL: Score(value=None, undefined=EVIL)})
    )
    assert Page(html).all("script") == []
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_writing_names_the_page_and_replaces_the_old_one(two_undrawn, tmp_path):
    (tmp_path / "report.html").write_text("old")
    path = write_page(two_undrawn)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_page(two_undrawn)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_page_and_nothing_else(failing, two_undrawn, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(StorageError, match=r"No room to write .*report\.html"):
        write_page(two_undrawn)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_names_that_are_not_text_do_not_stop_the_report(two_undrawn):
    data = {**two_undrawn.data, "quarantine": [{"source": "tile_\udcff.png", "reason": "unreadable"}]}
    assert "tile_?.png" in write_page(replace(two_undrawn, data=data)).read_text(encoding="utf-8")


def test_the_reporter_writes_the_page(two_undrawn, tmp_path):
    (html,) = html_report.histoflow_reporters()
    assert html.write(html.params(), two_undrawn) == [tmp_path / "report.html"]
