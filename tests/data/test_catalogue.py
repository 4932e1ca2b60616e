"""What is told of a data set that has changed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from histoflow import Row, Samples
from histoflow.data.catalogue import Catalogue, Entry, catalogue_of, compare, digest_in, read, tell, write

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def catalogue(**entries: Entry) -> Catalogue:
    return Catalogue(digest="d", made=NOON, entries=entries)


def entry(
    label: str = "a", content: str | None = None, group: str | None = None, split: str | None = None
) -> Entry:
    return Entry(label, group, split, content)


def test_images_that_came_and_went_are_counted_by_class() -> None:
    before = catalogue(one=entry("a"), two=entry("b"))
    now = catalogue(two=entry("b"), three=entry("b"), four=entry("b"), five=entry("a"))
    assert compare(before, now).words() == ["3 added (1 a, 2 b)", "1 removed (1 a)"]


def test_an_image_that_was_moved_to_another_class_folder_is_relabelled() -> None:
    before = {"a/1.png": entry("a", "same"), "a/2.png": entry("a", "other")}
    now = {"b/1.png": entry("b", "same"), "a/2.png": entry("a", "other")}
    changes = compare(catalogue(**before), catalogue(**now))
    assert changes.words() == ["1 relabelled (1 a → b)"]
    assert (changes.added, changes.removed, changes.renamed) == ((), (), 0)


def test_a_label_that_changed_in_place_is_relabelled() -> None:
    assert compare(catalogue(one=entry("a")), catalogue(one=entry("b"))).relabelled == (("a", "b"),)


def test_a_renamed_file_is_neither_added_nor_removed() -> None:
    changes = compare(catalogue(old=entry(content="x")), catalogue(new=entry(content="x")))
    assert changes.words() == ["1 under another name"]


def test_a_second_copy_of_an_image_is_added() -> None:
    changes = compare(
        catalogue(one=entry(content="x")), catalogue(one=entry(content="x"), copy=entry(content="x"))
    )
    assert changes.words() == ["1 added (1 a)"]


def test_other_content_groups_and_splits_are_told() -> None:
    before = catalogue(one=entry(content="x", group="g", split="train"))
    now = catalogue(one=entry(content="y", group="h", split="val"))
    assert compare(before, now).words() == [
        "1 with other content under the same name",
        "1 in another group",
        "1 in another split",
    ]


def test_the_sentence_names_data_set_time_classes_and_sizes() -> None:
    told = tell("mine", catalogue(one=entry("a")), catalogue(one=entry("a"), two=entry("c")))
    assert told.startswith("Data set 'mine' has changed since 2026-11-")
    assert told.endswith(": new labels c; 1 added (1 c). It had 1 images and has 2.")


def test_files_that_differ_while_no_image_tells_why_are_told_as_that() -> None:
    same = catalogue(one=entry())
    assert "its files have other content under the same names and labels" in tell("mine", same, same)


def test_a_catalogue_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path, strange = tmp_path / "c.parquet", "a/\udcff.png"
    samples = Samples(
        classes=("a", "b"),
        rows=[Row(0, strange, "train", "g"), Row((0, 1), "two"), Row((), "three")],
        read=lambda _: pytest.fail("no pixels are needed"),
        files=[tmp_path / strange, tmp_path / "two", tmp_path / "three"],
        task="multilabel",
    )
    made = catalogue_of(samples, {tmp_path / "two": "hash"}, "digest")
    write(made, path)
    assert read(path) == made
    assert digest_in(path) == "digest"
    assert [entry.label for entry in made.entries.values()] == ["a", "a + b", "none"]
    assert made.entries["two"].content == "hash"


def test_there_is_no_digest_where_there_is_no_catalogue(tmp_path: Path) -> None:
    assert digest_in(tmp_path / "none.parquet") is None
