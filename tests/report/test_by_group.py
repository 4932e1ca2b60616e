"""The section on slides and patients says what metrics.json holds of them."""

from dataclasses import replace

import numpy as np
import pytest

import report_example as example
from histoflow import Metric
from histoflow.evaluation import by_group
from histoflow.evaluation.fitting import Fitted
from histoflow.evaluation.predictions import Predictions
from histoflow.experiment import Evaluation
from histoflow.registry import installed
from histoflow.report import render_page, wording
from histoflow.report.by_group import by_group_content

METRICS = ("accuracy", "balanced_accuracy", "roc_auc")


def evaluated(folder, groups, **settings):
    results = example.two_classes(folder)
    kept = Predictions(probabilities=results.probabilities, labels=results.labels, groups=groups)
    metrics = {name: (one := installed().get(Metric, name), one.params()) for name in METRICS}
    fitted = Fitted(model="abc", task="binary", images=1)
    found = by_group.look(Evaluation(**settings), metrics, kept, fitted, seed=1)
    return replace(results, evaluation={"aggregated": found})


@pytest.fixture
def results(tmp_path):
    """240 images, the last 60 of which are tumours, on 24 slides; one slide has both."""
    slides = np.array([f"slide {(image + 5) // 10}" for image in range(240)])
    return evaluated(tmp_path, slides, aggregate=("mean", "top_k"), top_k=3)


def test_each_metric_has_a_row_and_each_way_a_column(results):
    told, shown = results.evaluation["aggregated"], by_group_content(results)
    assert shown["ways"] == ["mean", "mean of the 3 highest"]
    assert [name for name, _ in shown["rows"]] == ["accuracy", "balanced accuracy", "roc auc"]
    for (_, cells), metric in zip(shown["rows"], METRICS, strict=True):
        for (figure, interval), way in zip(cells, ("mean", "top_k"), strict=True):
            score = told["by"][way]["scores"][metric]
            assert figure == wording.figure(score["value"])
            assert interval == wording.interval(score["interval"])


def test_it_says_how_many_groups_there_are_and_how_many_are_mixed(results):
    shown = by_group_content(results)
    assert (shown["groups"], shown["sizes"]) == ("25", "of 5 to 10 images")
    assert shown["mixed"].startswith("1 of them hold")
    assert shown["intervals"] == "95% intervals: bootstrap over 25 groups, 2,000 draws."


def test_the_page_shows_the_section(results):
    page = render_page(results)
    assert "<h2>By group</h2>" in page
    assert "are of 25 groups" in page
    assert "mean of the 3 highest" in page


def test_groups_without_figures_say_why(tmp_path):
    page = render_page(evaluated(tmp_path, np.repeat("slide", 240)))
    assert "There are no figures of groups: all test images are of one group" in page


def test_groups_that_are_mostly_mixed_have_no_figures(tmp_path):
    page = render_page(evaluated(tmp_path, np.tile(["a", "b", "c"], 80)))
    assert "There are no figures of groups: most groups hold images of several classes" in page


def test_undefined_figures_are_dashes_with_the_reason(tmp_path):
    slides = np.where(np.arange(240) < 120, np.tile(["a", "b"], 120), "c")  # c has as many of either class
    shown = by_group_content(evaluated(tmp_path, slides, aggregate=("mean",)))
    cells = dict(shown["rows"])["roc auc"]
    assert cells == [(wording.NONE, "")]
    assert any(note.startswith("roc auc (mean): all images are of class 0") for note in shown["notes"])


def test_a_reason_that_holds_of_several_figures_is_told_once(tmp_path):
    slides = np.array([f"slide {image // 10}" for image in range(240)])
    results = evaluated(tmp_path, slides, aggregate=("mean", "vote"))
    for way in results.evaluation["aggregated"]["by"].values():
        for name, score in way["scores"].items():
            which = "overall and class 1" if name == "roc_auc" else "overall"
            score |= {"interval": None, "interval_note": f"no interval for {which}: it never varies"}
    assert by_group_content(results)["notes"] == [
        "accuracy (mean), balanced accuracy (mean), roc auc (mean), accuracy (vote), balanced accuracy (vote), "
        "roc auc (vote): without interval where it never varies"
    ]


def test_images_without_groups_have_no_section(tmp_path):
    assert by_group_content(evaluated(tmp_path, None)) is None
    assert by_group_content(example.two_classes(tmp_path)) is None
