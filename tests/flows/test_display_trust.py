"""The short table of calibration, operating point, prediction sets and groups on the command line."""

from rich.console import Console

from histoflow_flows.display import scores
from histoflow_flows.display_trust import trust


def score(value, interval=None):
    return {"value": value, "per_class": None, "undefined": "", "interval": interval}


METRICS = {
    "classes": ["normal", "tumour [grade 2]"],
    "scores": {"accuracy": score(0.9)},
    "calibration": {
        "temperature": 1.432,
        "before": {"ece": score(0.08, [0.05, 0.11])},
        "after": {"ece": score(0.03)},
    },
    "operating": {
        "thresholds": [0.371],
        "scores": {"sensitivity": score(0.96, [0.91, 0.99]), "specificity": score(None)},
    },
    "sets": {"coverage": 0.9, "scores": {"coverage": score(0.91), "abstained": score(0.2)}},
    "aggregated": {
        "groups": 1200,
        "by": {"top_k": {"scores": {"balanced_accuracy": score(0.8, [0.7, 0.9])}}},
    },
}


def shown(metrics):
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        console.print(scores(metrics, "Test figures"))
    return captured.get()


def test_each_part_has_its_line():
    text = shown(METRICS)
    for line in (
        "0.080 (0.050 to 0.110) as given, 0.030 with temperature 1.43",
        "tumour [grade 2] from 0.371 on",
        "sensitivity 0.960 (0.910 to 0.990), specificity –",
        "prediction sets at 0.9",
        "0.910 hold the true class, 0.200 abstained",
        "1,200 groups, by top k",
        "balanced accuracy 0.800 (0.700 to 0.900)",
    ):
        assert line in text


def test_parts_that_are_none_have_no_line():
    nothing = dict.fromkeys(("operating", "sets", "aggregated"))
    text = shown({**METRICS, **nothing, "calibration": {**METRICS["calibration"], "after": None}})
    assert "0.080 (0.050 to 0.110) as given" in text
    assert not any(word in text for word in ("temperature", "groups", "sets", "from"))


def test_runs_of_former_versions_have_no_such_table():
    assert list(trust({"classes": ["a", "b"], "scores": {}})) == []
