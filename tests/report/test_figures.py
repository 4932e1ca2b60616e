"""Figures show the numbers they were given, in valid images that look the same everywhere."""

import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from xml.etree import ElementTree as Xml

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from histoflow.evaluation import roc_curves
from histoflow.report import figures, style

HISTORY = [
    {"epoch": 1, "train_loss": 1.5, "val_loss": 1.2, "val_f1": 0.5, "val_roc_auc": None, "lr": 0.1},
    {"epoch": 2, "train_loss": 1.0, "val_loss": 0.9, "val_f1": 0.7, "val_roc_auc": 0.8, "lr": 0.1},
    {"epoch": 3, "train_loss": 0.8, "val_loss": 1.0, "val_f1": 0.6, "val_roc_auc": 0.9, "lr": 0.1},
]
MATRIX = np.array([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
LABELS = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.7, 0.3]])


def lines_of(figure):
    """What each named line is drawn from."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in figure.axes[0].lines
        if not line.get_label().startswith("_")
    }


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_loss_curves_are_the_losses_by_epoch():
    figure = figures.loss_curves(HISTORY)
    assert lines_of(figure) == {
        "training": ([1, 2, 3], [1.5, 1.0, 0.8]),
        "validation": ([1, 2, 3], [1.2, 0.9, 1.0]),
    }
    assert legend_of(figure) == ["training", "validation"]


def test_metric_curves_are_the_validation_metrics_without_the_loss():
    lines = lines_of(figures.metric_curves(HISTORY))
    assert list(lines) == ["f1", "roc auc"]
    assert lines["f1"] == ([1, 2, 3], [0.5, 0.7, 0.6])


def test_an_undefined_figure_is_a_gap():
    _, values = lines_of(figures.metric_curves(HISTORY))["roc auc"]
    assert np.isnan(values[0])
    assert values[1:] == [0.8, 0.9]


def test_a_metric_that_only_later_epochs_have_is_drawn():
    lines = lines_of(figures.metric_curves([{"epoch": 1}, {"epoch": 2, "val_own": 3.0}]))
    assert lines["own"][1][1] == 3.0


def test_the_best_epoch_is_marked_where_it_is_known():
    marks = [line.get_xdata() for line in figures.loss_curves(HISTORY, 2).axes[0].lines[2:]]
    assert marks == [[2, 2]]
    assert len(figures.loss_curves(HISTORY).axes[0].lines) == 2


def test_epochs_are_whole_numbers_on_the_axis():
    figure = figures.loss_curves(HISTORY)
    style.to_svg(figure)
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())


def test_confusion_is_coloured_by_the_share_of_each_row():
    figure = figures.confusion_heatmap(MATRIX, ["a", "b", "c"])
    shares = figure.axes[0].collections[0].get_array()
    assert np.asarray(shares).tolist() == [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]]


def test_confusion_shows_share_and_count_with_actual_classes_in_rows():
    figure = figures.confusion_heatmap(MATRIX, ["a", "b", "c"])
    axes = figure.axes[0]
    assert axes.yaxis_inverted()
    place = {(text.get_position()[0], int(text.get_position()[1])): [] for text in axes.texts}
    for text in axes.texts:
        place[text.get_position()[0], int(text.get_position()[1])].append(text.get_text())
    assert place[0.5, 0] == ["80%", "8"]
    assert place[1.5, 0] == ["20%", "2"]
    assert place[0.5, 1] == ["25%", "1"]
    assert place[2.5, 2] == ["0"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("row", "expected"), [([1, 999], ["<1%", ">99%"]), ([0, 7], ["100%"]), ([5, 995], ["<1%", ">99%"])]
)
def test_rounding_hides_neither_a_rare_mistake_nor_a_rare_miss(row, expected):
    texts = texts_of(figures.confusion_heatmap(np.array([row, [0, 0]]), ["a", "b"]))
    assert [text for text in texts if text.endswith("%")] == expected


def test_long_class_names_take_two_lines_and_never_lose_words_in_silence():
    names = ["colorectal adenocarcinoma epithelium", "x" * 90, "short"]
    texts = texts_of(figures.confusion_heatmap(MATRIX, names))
    assert {"colorectal adenocarcinoma", "epithelium", "short"} <= set(texts)
    assert any(text.endswith("…") for text in texts)


def test_text_in_a_cell_stands_out_from_its_colour():
    """4.5:1, as the accessibility guidelines ask of small text, in light and in dark."""
    figure = figures.confusion_heatmap(MATRIX, ["a", "b", "c"])
    style.to_svg(figure)
    cells = figure.axes[0].collections[0]
    for share in np.linspace(0, 1, 101):
        *color, opacity = cells.to_rgba(share)
        for ink, paper in ((style.INK, style.PAPER), (style.DARK[style.INK], style.DARK[style.PAPER])):
            assert contrast(ink, blend(color, paper, opacity)) > 4.5
    assert {text.get_color() for text in figure.axes[0].texts if text.get_text() != "0"} <= {
        style.INK,
        style.MUTED,
    }


def test_lines_stand_out_in_light_and_dark():
    for hue in style.HUES:
        assert contrast(hue, style.PAPER) > 3
        assert contrast(hue, style.DARK[style.PAPER]) > 3


def blend(color, paper, share):
    return tuple(share * a + (1 - share) * b for a, b in zip(to_rgb(color), to_rgb(paper), strict=True))


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def luminance(color):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_roc_curves_are_drawn_as_given_with_their_areas():
    curve = roc_curves(LABELS, PROBABILITIES)[1]
    figure = figures.roc_chart({"tumor": curve})
    x, y = lines_of(figure)["0.750  tumor"]
    assert x == curve.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert y == curve.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert legend_of(figure) == ["0.750  tumor"]


def test_more_lines_than_hues_are_told_apart_by_dashes():
    curve = roc_curves(LABELS, PROBABILITIES)[1]
    figure = figures.roc_chart({str(index): curve for index in range(25)})
    looks = [(line.get_color(), str(line.get_linestyle())) for line in figure.axes[0].lines[1:]]
    patterns = [line._unscaled_dash_pattern for line in figure.axes[0].lines[1:]]
    assert len({(color, str(pattern)) for (color, _), pattern in zip(looks, patterns, strict=True)}) == 25


@pytest.fixture
def drawn():
    return figures.confusion_heatmap(MATRIX, ["$a_b$ <script>", "腺腫 \ud800\x00", "c & d"])


def test_svg_is_valid_and_shows_names_as_they_are(drawn):
    root = Xml.fromstring(style.to_svg(drawn))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"$a_b$ <script>", "腺腫", "c & d", "80%"} <= set(texts)


def test_svg_refers_to_nothing_outside(drawn):
    root = Xml.fromstring(style.to_svg(drawn))
    references = [value for element in root.iter() for key, value in element.attrib.items() if "href" in key]
    assert all(reference.startswith("#") for reference in references)
    assert "http" not in "".join(root.itertext())


def test_the_same_figure_gives_the_same_bytes():
    assert style.to_svg(figures.loss_curves(HISTORY)) == style.to_svg(figures.loss_curves(HISTORY))


def test_every_colour_of_the_light_scheme_is_exchanged_in_the_dark():
    svg = style.to_svg(figures.loss_curves(HISTORY, 2))
    for light, dark in style.DARK.items():
        assert f'[style*="fill: {light}"]{{fill:{dark} !important}}' in svg
        assert (
            f"fill: {light}" in svg.split("</style>")[-1] or f"stroke: {light}" in svg.split("</style>")[-1]
        )


def test_png_has_the_size_of_the_figure(drawn):
    image = Image.open(BytesIO(style.to_png(drawn, dots_per_inch=50)))
    assert image.format == "PNG"
    assert image.size == pytest.approx(tuple(50 * drawn.get_size_inches()), abs=1)


def test_data_uris_hold_the_whole_image():
    kind, svg = style.data_uri(figures.loss_curves(HISTORY)).split(",")
    assert kind == "data:image/svg+xml;base64"
    assert b64decode(svg).decode() == style.to_svg(figures.loss_curves(HISTORY))
    kind, png = style.data_uri(figures.loss_curves(HISTORY), "png").split(",")
    assert kind == "data:image/png;base64"
    assert b64decode(png).startswith(b"\x89PNG")


def test_the_users_own_settings_neither_matter_nor_change():
    expected = style.to_svg(figures.loss_curves(HISTORY))
    with mpl.rc_context({"lines.linewidth": 9, "axes.facecolor": "red", "svg.fonttype": "path"}):
        before = dict(mpl.rcParams)
        assert style.to_svg(figures.loss_curves(HISTORY)) == expected
        assert dict(mpl.rcParams) == before


def test_figures_do_without_pyplot_and_torch():
    code = (
        "import sys; from histoflow.report import figures, style;"
        "style.to_svg(figures.loss_curves([{'epoch': 1, 'train_loss': 1.0}]));"
        "print([name for name in ('matplotlib.pyplot', 'torch', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
