"""The report's section on robustness: nothing where nothing was tested, else each figure that was found."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import report_example as example
from histoflow.report import render_page
from histoflow.report.page import rendered
from histoflow.report.robustness import robustness_content


def _of(name):
    spec = importlib.util.spec_from_file_location(f"report_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = _of("test_page")


def condition(kind, grade, accuracy, low, high, undefined=None):
    return {
        "kind": kind,
        "grade": grade,
        "strength": f"<{kind}> & so on",
        "scores": {"accuracy": accuracy, "roc_auc": None if undefined else 0.8},
        "undefined": {"roc_auc": undefined} if undefined else {},
        "difference": {"value": accuracy - 0.9, "low": low, "high": high, "note": "" if low else "too few"},
    }


FOUND = {
    "images": 1000,
    "of": 7180,
    "metric": "accuracy",
    "higher_is_better": True,
    "level": 0.95,
    "draws": 2000,
    "by": "group",
    "clean": {"scores": {"accuracy": 0.9, "roc_auc": 0.85}, "undefined": {}},
    "conditions": [
        condition("blur", "mild", 0.88, -0.031, -0.009),
        condition("blur", "strong", 0.612, -0.334, -0.242),
        condition("noise", "mild", 0.905, None, None, undefined="there is one class"),
    ],
    "worst": "The worst is strong blur.",
}


def results(tmp_path, robustness):
    return replace(example.two_classes(tmp_path), evaluation={"robustness": robustness})


def test_nothing_is_shown_where_nothing_was_tested(tmp_path):
    assert robustness_content(results(tmp_path, None)) is None
    assert robustness_content(example.two_classes(tmp_path)) is None
    assert "Robustness" not in render_page(results(tmp_path, None))


def test_why_nothing_could_be_tested_is_shown(tmp_path):
    content = {"robustness": robustness_content(results(tmp_path, {"note": "no room on <cuda>"}))}
    text = pages.Page(rendered("robustness.html.j2", content)).text
    assert text.split() == ["Robustness", "no", "room", "on", "<cuda>"]


def test_the_page_shows_every_figure(tmp_path):
    page = pages.Page(render_page(results(tmp_path, FOUND)))
    shown = page.text[page.text.index("Robustness") :]
    for text in (
        "1,000 of the 7,180 test images",
        "The worst is strong blur.",
        "clean 0.900 0.850",
        "blur, strong <blur> & so on −0.288 −0.334 to −0.242 0.612 0.800",
        "noise, mild <noise> & so on +0.005 0.905 –",
        "95% intervals: paired bootstrap over groups, 2,000 draws",
        "noise, mild: roc auc is undefined: there is one class",
        "noise, mild: too few",
    ):
        assert text in shown
    assert shown.index("clean 0.900") < shown.index("blur, mild")


def test_the_figure_tells_in_words_what_it_draws(tmp_path):
    content = robustness_content(results(tmp_path, FOUND))
    assert content["picture"].source.startswith("data:image/svg+xml;base64,")
    assert "Clean 0.900; at the strongest: blur 0.612, noise 0.905." in content["picture"].alt


def test_all_images_are_told_as_such(tmp_path):
    content = robustness_content(results(tmp_path, FOUND | {"images": 7180}))
    assert content["images"] == "all 7,180 test images"


def test_a_metric_that_is_undefined_everywhere_still_has_a_page(tmp_path):
    nothing = {"value": None, "low": None, "high": None, "note": "there is one class"}
    bare = {"scores": {"roc_auc": None}, "undefined": {"roc_auc": "there is one class"}}
    everywhere = [one | bare | {"difference": nothing} for one in FOUND["conditions"]]
    found = FOUND | {"metric": "roc_auc", "clean": bare, "conditions": everywhere}
    text = pages.Page(render_page(results(tmp_path, found))).text
    assert "clean: roc auc is undefined: there is one class" in text
    assert "all conditions: there is one class" in text
