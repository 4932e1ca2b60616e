"""The section on calibration, operating point and prediction sets says what metrics.json holds."""

import re
from dataclasses import replace

import numpy as np
import pytest

import report_example as example
from histoflow.report import render_page, wording
from histoflow.report.trust import trust_content
from histoflow.report.trust_figures import reliability_chart
from report_example import evaluated


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    return evaluated(example.nine_classes(tmp_path_factory.mktemp("nine")))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return evaluated(example.two_classes(tmp_path_factory.mktemp("two")), threshold="youden")


def several_labels(folder):
    chance = np.random.default_rng(7)
    labels = (chance.random((200, 3)) < (0.5, 0.2, 0.05)).astype(np.int64)
    probabilities = 0.6 * chance.random(labels.shape) + 0.4 * labels
    bare = example.two_classes(folder)
    return replace(
        bare, data={"classes": list(example.FINDINGS)}, labels=labels, probabilities=probabilities, metrics={}
    )


def test_the_table_of_calibration_has_both_columns_with_intervals(nine):
    told, shown = nine.evaluation["calibration"], trust_content(nine)
    assert shown["calibration"].columns == ["as given", "calibrated"]
    cells = dict(shown["calibration"].rows)["calibration error (ECE)"]
    assert [figure for figure, _ in cells] == [
        wording.figure(told[when]["ece"]["value"]) for when in ("before", "after")
    ]
    assert all(re.fullmatch(r"\d\.\d{3} to \d\.\d{3}", interval) for _, interval in cells)
    assert (
        f"A temperature of {told['temperature']:.3g}, fitted on 203 validation images" in shown["temperature"]
    )
    assert wording.figure(told["after"]["ece"]["value"]) in shown["picture"].alt


def test_without_a_temperature_there_is_one_column(tmp_path):
    shown = trust_content(evaluated(example.two_classes(tmp_path), calibration="none"))
    assert shown["calibration"].columns == ["as given"]
    assert shown["temperature"] == "Probabilities are as the network gives them."


def test_the_operating_point_of_two_classes_is_that_of_the_second(two):
    told, shown = two.evaluation["operating"], trust_content(two)["operating"]
    ((name, (threshold, sensitivity, *_)),) = shown["table"].rows
    assert (name, threshold[0]) == ("tumor", f"{told['thresholds'][0]:.3g}")
    assert sensitivity[0] == wording.figure(told["scores"]["sensitivity"]["value"])
    assert told["rule"] in shown["table"].caption
    assert wording.figure(told["validation"]["specificity"]["value"]) in shown["validation"]


def test_several_labels_have_a_row_each_and_sets_that_never_abstain(tmp_path):
    shown = trust_content(evaluated(several_labels(tmp_path), threshold="youden"))
    assert [name for name, _ in shown["operating"]["table"].rows] == ["all", *example.FINDINGS]
    assert [cells[0][0] == "" for _, cells in shown["operating"]["table"].rows] == [True, False, False, False]
    assert len(shown["sets"]["table"].columns) == 2
    assert not shown["sets"]["decides"]


def test_prediction_sets_have_a_row_for_each_class(nine):
    told, shown = nine.evaluation["sets"]["scores"], trust_content(nine)["sets"]["table"]
    assert [name for name, _ in shown.rows] == ["all", *example.NINE]
    for place, (_, cells) in enumerate(shown.rows[1:]):
        assert cells[0][0] == wording.figure(told["coverage"]["per_class"][place])
    assert "in 0.9 of all cases" in shown.caption


def test_the_page_shows_the_section_and_its_notes(nine):
    page = render_page(nine)
    assert page.count("<h2>Calibration</h2>") == 1
    assert "<h3>Prediction sets</h3>" in page
    assert "<h3>Operating point</h3>" not in page
    assert "one level for all classes, as validation holds fewer than 50 images of some." in page
    assert 'alt="Reliability diagram.' in page


def test_runs_that_were_evaluated_before_have_no_section(tmp_path):
    assert trust_content(example.two_classes(tmp_path)) is None


def test_the_chart_draws_each_line_over_its_bins(nine):
    bins = nine.evaluation["calibration"]["bins"]
    above, below = reliability_chart({"one": bins["before"], "other": bins["after"]}).axes
    _, one, other = above.lines
    assert one.get_xdata().tolist() == [each["told"] for each in bins["before"]]
    assert other.get_ydata().tolist() == [each["right"] for each in bins["after"]]
    assert len(below.patches) == len(bins["before"]) + len(bins["after"])
    assert above.get_xlim()[0] < bins["before"][0]["told"]
