"""The report's examples with overlays, and its map of the images."""

import importlib.util
import io
import re
from base64 import b64decode
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import report_example as example
from histoflow.components import SPLITS
from histoflow.explanation import embedding, galleries
from histoflow.explanation.embedding import Embedding
from histoflow.explanation.galleries import Gallery
from histoflow.report import render_page
from histoflow.report.gallery import gallery_content
from histoflow.report.page import rendered

_spec = importlib.util.spec_from_file_location("report_test_page", Path(__file__).with_name("test_page.py"))
pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pages)

NASTY = '<img src=x onerror="alert(1)">/slide&1.png'


def entry(index, kind, of, told, probabilities, source="patch"):
    return {
        "index": index,
        "kind": kind,
        "class": of,
        "source": source,
        "group": None,
        "true": [of],
        "told": [told],
        "probabilities": probabilities,
    }


def gallery_of(folder, rows, maps, map_rows, map_classes):
    chance = np.random.default_rng(0)
    galleries.save(
        folder,
        Gallery(
            indices=np.array([row["index"] for row in rows], np.int64),
            images=chance.integers(0, 256, (len(rows), 24, 32, 3), dtype=np.uint8),
            maps=np.array(maps, np.float32).reshape(-1, 2, 2),
            map_rows=np.array(map_rows, np.int64),
            map_classes=np.array(map_classes, np.int64),
        ),
    )
    return {"layer": "base", "grid": [2, 2], "note": "", "calibrated": True, "images": rows}


def map_of(folder, labels, groups, splits=None):
    count = len(labels)
    embedding.save(
        folder,
        Embedding(
            points=np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32),
            explained=np.array([0.41, 0.2]),
            splits=np.arange(count) % 3 if splits is None else splits,
            indices=np.arange(count),
            labels=np.array(labels, np.int64),
            groups=np.array(groups, np.str_),
        ),
    )
    counts = dict.fromkeys(SPLITS, count // 3)
    return {
        "images": counts,
        "of": {**counts, "train": 9000},
        "layer": "3",
        "explained": [0.41, 0.2],
        "note": "",
    }


def results_in(tmp_path):
    """Examples of two classes, one of them wrong, and a map of 60 images in three groups."""
    results = example.two_classes(tmp_path)
    rows = [
        entry(5, "right", "normal", "normal", {"normal": 0.987, "tumor": 0.013}),
        entry(9, "wrong", "tumor", "normal", {"normal": 0.912, "tumor": 0.088}, NASTY),
        entry(7, "unsure", "normal", "normal", {"normal": 0.514, "tumor": 0.486}, f"deep/{'x' * 90}/end.png"),
    ]
    told = {
        "gallery": gallery_of(
            tmp_path, rows, [[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], [0, 1, 1], [0, 0, 1]
        ),
        "embedding": map_of(tmp_path, [0, 1] * 30, [f"slide {n % 3}" for n in range(60)]),
    }
    return replace(results, evaluation={"explained": told})


@pytest.fixture
def two(tmp_path):
    return results_in(tmp_path)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Drawn once, for the tests that only read it."""
    return render_page(results_in(tmp_path_factory.mktemp("two")))


def section(results):
    """These sections alone: the rest of the page takes a second to draw."""
    return rendered("gallery.html.j2", {"gallery": gallery_content(results)})


def pictures(html):
    """Every thumbnail of the page as an array, by its text for who cannot see it."""
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', html)
    return [(alt, np.asarray(Image.open(io.BytesIO(b64decode(data))), np.int64)) for data, alt in found]


def test_examples_stand_under_their_class_with_what_was_told_and_how_surely(html):
    text = pages.Page(html).text
    assert "Surest of those told rightly told normal 0.987 patch" in text
    assert "told normal 0.912, is tumor 0.088" in text
    assert "told normal 0.514 against tumor 0.486" in text
    assert "Least sure: none" in text, "of tumor"
    assert "of 2 × 2 places" in text
    assert html.index(">normal</h3>") < html.index("0.987") < html.index(">tumor</h3>") < html.index("0.912")


def test_long_sources_are_shortened_at_their_beginning(html):
    assert re.search(r'title="deep/x{90}/end.png">…x+/end.png<', html)


def test_names_from_strangers_are_text_and_no_markup(html):
    assert "onerror=&#34;alert(1)&#34;" in html
    assert "<img src=x" not in html
    page = pages.Page(html)
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_an_overlay_colours_the_place_that_speaks_for_the_class_and_leaves_the_rest(html):
    shown = pictures(html)
    assert [alt for alt, _ in shown] == [
        "The image as it is stored",
        "Where the network finds normal",
        "The image as it is stored",
        "The image as it is stored",
        "Where the network finds normal",
        "No place speaks for tumor",
    ]
    (plain, right), (_, wrong) = ((shown[0][1], shown[1][1]), shown[4])
    assert plain.shape == (84, 112, 3)
    change = np.abs(right - plain).mean(axis=2)
    assert change[-20:, -20:].mean() > 5 * change[:20, :20].mean()
    yellow = right[-10:, -10:].reshape(-1, 3).mean(axis=0)
    assert yellow[0] > 150
    assert yellow[1] > 150
    assert yellow[2] < 100
    top_left = wrong[:10, :10].reshape(-1, 3).mean(axis=0)
    assert top_left[2] < 100, "of another place, as its map says"
    assert np.abs(shown[5][1] - shown[3][1]).max() == 0, "nothing is laid over it"


def test_the_map_is_coloured_by_class_split_and_group(html):
    page = pages.Page(html)
    alts = [image["alt"] for image in page.all("img") if image["alt"].startswith("Map of")]
    assert alts == [
        "Map of 60 images, one point each, coloured by class: normal 30, tumor 30.",
        "Map of 60 images, one point each, coloured by split: train 20, val 20, test 20.",
        "Map of 60 images, one point each, coloured by group: slide 0 20, slide 1 20, slide 2 20.",
    ]
    assert "20 of 9,000 train images, all 20 val images, all 20 test images" in page.text


def test_the_axes_tell_their_share_and_the_points_are_one_picture(html):
    (address,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="Map of[^"]*by class', html)
    svg = b64decode(address).decode()
    assert "first axis: 41.0% of the variance" in svg
    assert "second axis: 20.0%" in svg
    assert svg.count("<image") == 1
    assert len(svg) < 60_000


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "The data name no groups, so the map is not coloured by group."),
        (
            [f"s{n % 13}" for n in range(60)],
            "The images are of 13 groups. Colours tell no more than 12 apart",
        ),
    ],
)
def test_groups_that_are_missing_or_too_many_are_told(two, tmp_path, groups, words):
    map_of(tmp_path, [0, 1] * 30, groups)
    text = pages.Page(section(two)).text
    assert words in text
    assert "Coloured by group" not in text


def test_of_several_labels_the_probability_is_of_the_class_shown_and_mixed_images_stand_apart(tmp_path):
    results = example.several_labels(tmp_path)
    row = entry(3, "false_alarm", "hernia", "hernia", {"hernia": 0.871})
    row["true"] = ["effusion", "infiltration"]
    labels = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0]]
    told = {
        "gallery": gallery_of(tmp_path, [row], [[0, 1, 0, 0]], [0], [2]),
        "embedding": map_of(tmp_path, labels, []),
    }
    page = pages.Page(section(replace(results, evaluation={"explained": told})))
    assert "Surest of the false alarms 0.871; shows effusion, infiltration patch" in page.text
    assert "what speaks for the class of the heading" in page.text
    alts = " ".join(image["alt"] for image in page.all("img"))
    assert "infiltration 1, hernia 1, several classes 2, none of the classes 2." in alts


def test_a_network_without_places_shows_images_and_says_why(two, tmp_path):
    told = dict(two.evaluation["explained"])
    rows = told["gallery"]["images"]
    told["gallery"] = {
        **gallery_of(tmp_path, rows, [], [], []),
        "layer": None,
        "grid": None,
        "note": "The network has no layer with places.",
    }
    html = section(replace(two, evaluation={"explained": told}))
    text = pages.Page(html).text
    assert "The network has no layer with places." in text
    assert "Grad-CAM" not in text
    assert len(pictures(html)) == 3


def test_a_map_that_could_not_be_made_says_why(two):
    told = dict(two.evaluation["explained"])
    told["embedding"] = {**told["embedding"], "explained": None, "note": "Some features are not finite."}
    text = pages.Page(section(replace(two, evaluation={"explained": told}))).text
    assert "Some features are not finite." in text
    assert "Coloured by" not in text


def test_pictures_of_another_evaluation_are_not_shown(two, tmp_path):
    told = two.evaluation["explained"]["gallery"]
    gallery_of(tmp_path, told["images"][:2], [], [], [])
    html = section(two)
    assert "The pictures kept are of another evaluation" in html
    assert pictures(html) == []


@pytest.mark.parametrize(
    "evaluation", [{}, {"explained": None}, {"explained": {"gallery": None, "embedding": None}}]
)
def test_a_run_without_them_has_no_such_sections(two, evaluation):
    assert gallery_content(replace(two, evaluation=evaluation)) is None


def test_a_run_whose_files_are_gone_says_so(two, tmp_path):
    (tmp_path / galleries.FILE).unlink()
    (tmp_path / embedding.FILE).unlink()
    text = pages.Page(section(two)).text
    assert "The pictures were made, and are gone: gallery.npz is missing." in text
    assert "The map was made, and is gone: embedding.npz is missing." in text


def test_nine_classes_stay_within_two_megabytes(tmp_path):
    """Images of noise and maps of three in every five: more than any tissue comes to."""
    results = example.nine_classes(tmp_path)
    kinds = ("right", "wrong", "unsure")
    rows = [
        entry(
            index,
            kinds[index % 3],
            example.NINE[index // 12],
            example.NINE[index // 12],
            {example.NINE[index // 12]: 0.5},
        )
        for index in range(9 * 4 * 3)
    ]
    chance = np.random.default_rng(0)
    maps = chance.random((2 * len(rows), 2, 2))
    told = {
        "gallery": gallery_of(tmp_path, rows, maps, np.arange(2 * len(rows)) // 2, np.zeros(2 * len(rows)))
    }
    content = gallery_content(replace(results, evaluation={"explained": told}))
    thumbs = [
        thumb
        for _, by_kind in content["examples"]["classes"]
        for _, images in by_kind
        for shown in images
        for thumb in shown.thumbs
    ]
    assert len(thumbs) == 3 * len(rows)
    assert sum(len(thumb.source) for thumb in thumbs) < 2_000_000
