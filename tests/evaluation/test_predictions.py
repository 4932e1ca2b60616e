"""What is kept of an evaluation comes back as it was, or not at all."""

from dataclasses import replace

import numpy as np
import pytest

from histoflow import DataError
from histoflow.evaluation import predictions
from histoflow.evaluation.predictions import Predictions

KEPT = Predictions(
    probabilities=np.array([[0.2, 0.8], [0.9, 0.1]]),
    labels=np.array([1, 0]),
    groups=np.array(["slide 1", "Überlingen"]),
    sources=np.array(["a.png", "b/ü.png"]),
    model="4f53cda18c2b",
)


def test_what_is_kept_comes_back(tmp_path):
    predictions.save(tmp_path, KEPT)
    found = predictions.load(tmp_path)
    assert found.model == KEPT.model
    for name in ("probabilities", "labels", "groups", "sources"):
        assert np.array_equal(getattr(found, name), getattr(KEPT, name))
        assert getattr(found, name).dtype == getattr(KEPT, name).dtype


def test_nothing_in_it_is_pickled(tmp_path):
    predictions.save(tmp_path, KEPT)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as kept:
        assert {kept[name].dtype.kind for name in kept.files} == {"f", "i", "U"}


def test_data_without_groups_and_runs_from_before_they_were_kept(tmp_path):
    np.savez(tmp_path / "predictions.npz", probabilities=KEPT.probabilities, labels=KEPT.labels)
    found = predictions.load(tmp_path)
    assert (found.groups, found.sources) == (None, None)
    assert found.labels.tolist() == [1, 0]
    predictions.save(tmp_path, found)
    assert predictions.load(tmp_path).groups is None


def damaged(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        middle = content.index(b"probabilities.npy") + 60
        path.write_bytes(content[:middle] + bytes(20) + content[middle + 20 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        np.savez(path, **how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "is damaged"),
        ("changed", "is damaged"),
        ("empty", "is damaged"),
        ({"labels": KEPT.labels}, "it lacks probabilities"),
        ({"labels": KEPT.labels[:1], "probabilities": KEPT.probabilities}, "holds 2 probabilities, 1 labels"),
        ({"labels": np.array(["a", None], object), "probabilities": KEPT.probabilities}, "is damaged"),
    ],
    ids=str,
)
def test_a_damaged_file_is_refused_with_the_next_step(tmp_path, how, message):
    folder = tmp_path / "run-1"
    folder.mkdir()
    predictions.save(folder, KEPT)
    damaged(folder / "predictions.npz", how)
    with pytest.raises(DataError, match=message) as error:
        predictions.load(folder)
    assert "histoflow evaluate run-1" in str(error.value)


def test_that_there_is_none_is_said(tmp_path):
    with pytest.raises(DataError, match=r"There is no .*predictions\.npz"):
        predictions.load(tmp_path)


def test_a_column_that_was_lost_is_noticed(tmp_path):
    """Its name in the file's table of contents is one that nobody asks for."""
    folder = tmp_path / "run-1"
    predictions.save(folder, KEPT)
    path = folder / "predictions.npz"
    with np.load(path) as kept:
        columns = dict(kept)
    del columns["groups"]
    np.savez(path, **columns)
    with pytest.raises(DataError, match="it lacks groups"):
        predictions.load(folder)
    np.savez(
        path, **{name: column for name, column in columns.items() if name != "columns"}, other=np.zeros(2)
    )
    with pytest.raises(DataError, match="it holds unknown columns: other"):
        predictions.load(folder)


def test_whatever_byte_is_changed_it_is_refused_or_the_same(tmp_path):
    predictions.save(tmp_path, KEPT)
    path = tmp_path / "predictions.npz"
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole) // 2, len(whole), 4):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        try:
            found = predictions.load(tmp_path)
        except DataError:
            refused += 1
        else:
            assert all(np.array_equal(getattr(found, name), column) for name, column in vars(KEPT).items())
    assert refused > len(whole) / 32


def test_those_of_another_model_are_refused_and_those_of_before_it_was_kept_are_not(tmp_path):
    predictions.save(tmp_path, KEPT)
    assert predictions.load(tmp_path, model=KEPT.model).model == KEPT.model
    with pytest.raises(DataError, match="must be of the model whose figures.*Evaluate the run again"):
        predictions.load(tmp_path, model="another")
    predictions.save(tmp_path, replace(KEPT, model=""))
    assert predictions.load(tmp_path, model="another").model == ""
