"""Predicting images with a trained run, as a notebook would."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from histoflow import drift, drifting, models, predictor, references, stages
from histoflow.data.store import PackedStore
from histoflow.engine import checkpoint
from histoflow.errors import DataError, DeviceMemoryError, RunError, UserError
from histoflow.evaluation import fitting
from histoflow.evaluation.fitting import Fitted
from histoflow.runs import Run
from support import small_experiment, trained


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run that has been trained and evaluated, to be copied by tests."""
    home = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTOFLOW_HOME", str(home))
        experiment = small_experiment(training={"epochs": 1, "batch_size": 32})
        run = trained(experiment, "run")
        stages.evaluate(run)
    return home


@pytest.fixture
def run(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HISTOFLOW_HOME", str(evaluated))
    return Run(evaluated / "runs" / "run")


def store_of(run: Run) -> PackedStore:
    return PackedStore(Path(str(run.read().packed)))


@pytest.fixture
def pictures(run: Run, tmp_path: Path) -> Path:
    """The test images as files, in their order."""
    split = store_of(run).unseal_test()
    for index, image in enumerate(split.gather(np.arange(len(split)))):
        path = tmp_path / "pictures" / f"part-{index // 10}" / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "pictures"


def fitted_of(run: Run) -> Fitted:
    found = fitting.load(run.folder)
    assert found is not None
    return found


def probabilities(table: Any) -> Any:
    return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("p_")], axis=1)


def test_probabilities_are_those_of_the_evaluation(run: Run, pictures: Path, tmp_path: Path) -> None:
    done = stages.predict(run, [pictures], out=tmp_path / "table.parquet", batch_size=7)
    table = pq.read_table(done.table)
    raw = np.load(run.folder / "predictions.npz")["probabilities"]
    expected = fitted_of(run).calibrated(raw)
    assert np.abs(expected - raw).max() > 1e-3
    assert (done.images, done.problems) == (len(expected), 0)
    assert np.abs(probabilities(table) - expected).max() < 1e-5
    classes = np.array(store_of(run).manifest.classes)
    assert table["predicted"].to_pylist() == classes[expected.argmax(axis=1)].tolist()
    assert np.allclose(table["confidence"].to_numpy(), expected.max(axis=1), atol=1e-5)
    assert table["path"].to_pylist() == sorted(map(str, pictures.rglob("*.png")))


def test_the_example_in_the_document_runs(
    run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures.rename(pictures.with_name("patches"))
    monkeypatch.chdir(pictures.parent)
    text = (Path(__file__).parents[1] / "docs" / "predicting.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(source, "docs/predicting.md", "exec"), {})
    assert capsys.readouterr().out.split()[1] == "0"
    assert Path("predictions.parquet").is_file()


def test_the_file_tells_what_it_was_made_by(run: Run, tmp_path: Path) -> None:
    stages.predict(run, out=tmp_path / "table.parquet", split="val", tta="flips")
    told = pq.read_schema(tmp_path / "table.parquet").metadata
    best = checkpoint.find(run.checkpoints, "best")
    assert best is not None
    assert told[b"histoflow.run"].decode() == run.id
    assert told[b"histoflow.model"].decode() == best.model_hash
    assert told[b"histoflow.tta"] == b"flips"
    assert json.loads(told[b"histoflow.classes"]) == list(store_of(run).manifest.classes)


def test_a_packed_split_is_predicted_in_its_order(run: Run, tmp_path: Path) -> None:
    done = stages.predict(run, out=tmp_path / "table.parquet", split="val")
    assert pq.read_table(done.table)["path"].to_pylist() == store_of(run).split("val").sources.tolist()


def test_views_are_averaged_so_that_a_turned_image_is_judged_alike(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    for path in pictures.rglob("*.png"):
        target = turned / path.relative_to(pictures)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(target)

    def predicted(folder: Path, tta: Any) -> Any:
        out = tmp_path / f"{folder.name}-{tta}.parquet"
        return probabilities(pq.read_table(stages.predict(run, [folder], out=out, tta=tta).table))

    assert np.allclose(predicted(pictures, "dihedral"), predicted(turned, "dihedral"), atol=1e-6)
    assert not np.allclose(predicted(pictures, "none"), predicted(turned, "none"), atol=1e-6)


def test_sets_are_those_that_were_fitted_and_raw_probabilities_have_none(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    told = pq.read_table(stages.predict(run, [pictures], out=tmp_path / "told.parquet").table)
    raw = pq.read_table(stages.predict(run, [pictures], out=tmp_path / "raw.parquet", raw=True).table)
    fitted, network = fitted_of(run), np.load(run.folder / "predictions.npz")["probabilities"]
    assert np.abs(probabilities(raw) - network).max() < 1e-5
    assert set(raw["set"].to_pylist()) == set(raw["abstains"].to_pylist()) == {None}
    held = fitted.sets(fitted.calibrated(network))
    assert held is not None
    classes = np.array(store_of(run).manifest.classes)
    assert told["set"].to_pylist() == [classes[one].tolist() for one in held]
    assert told["abstains"].to_pylist() == (held.sum(axis=1) != 1).tolist()


def test_a_model_that_was_trained_on_since_has_nothing_fitted(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    stale = Run(tmp_path / "run")
    fitted_of(run).model_copy(update={"model": "of a former epoch"}).save(stale.folder)
    with caplog.at_level("INFO", "histoflow"):
        done = stages.predict(stale, split="val", out=tmp_path / "table.parquet")
    assert "run was not evaluated since it was trained: probabilities are as the network gives" in caplog.text
    expected = np.load(run.folder / "validation.npz")["probabilities"]
    assert np.abs(probabilities(pq.read_table(done.table)) - expected).max() < 1e-5


def test_a_list_is_predicted_row_by_row_with_its_other_columns(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    listing = pictures / "list.csv"
    rows = [
        "part-1/0012.png,1,007",
        "nowhere.png,0,008",
        "part-0/0003.png,0,009",
        "part-1/0012.png,,010",
        ",1,011",
    ]
    listing.write_text("\n".join(["path,label,case", *rows]))
    done = stages.predict(run, [listing], out=tmp_path / "table.csv", batch_size=2)
    found = pcsv.read_csv(done.table, convert_options=pcsv.ConvertOptions(column_types={"case": pa.string()}))
    assert found["path"].to_pylist() == [row.split(",")[0] for row in rows]
    assert found["case"].to_pylist() == ["007", "008", "009", "010", "011"]
    problems = found["problem"].to_pylist()
    assert "Cannot read" in problems[1]
    assert problems[4] == "the list names no file here"
    assert (done.images, done.problems) == (5, 2)
    first, twice = (row for row in found.to_pylist() if row["path"] == "part-1/0012.png")
    assert first["confidence"] == twice["confidence"]


def test_a_list_that_does_not_fit_is_told(run: Run, pictures: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text("path,predicted\na.png,normal\n")
    with pytest.raises(UserError, match=r"may not have the names of its own .*Got predicted\. Rename them"):
        stages.predict(run, [listing], out=tmp_path / "table.parquet")
    with pytest.raises(UserError, match="A list of images must be named alone"):
        stages.predict(run, [listing, pictures], out=tmp_path / "table.parquet")
    assert not (tmp_path / "table.parquet").exists()


def test_what_drift_is_told_from_is_kept_with_each_prediction_of_files(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    plain, raw, turned = (
        stages.predict(run, [pictures], out=tmp_path / f"{number}.parquet", **how).kept
        for number, how in enumerate([{}, {"raw": True}, {"tta": "flips"}])
    )
    assert plain
    assert raw
    assert turned
    first, second, third = (drift.read_kept(path) for path in (plain, raw, turned))
    assert first.figures == second.figures, "drift is told from what was fitted, whatever is written"
    assert first.figures["brightness"] == third.figures["brightness"]
    assert first.figures.keys() - third.figures.keys() == {"confidence", "predicted"}
    assert not drifting.look_at(run, plain).outside
    assert stages.predict(run, split="val", out=tmp_path / "val.parquet").kept is None


def test_an_image_that_the_network_says_no_number_of_is_a_row_with_the_problem(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(pictures.rglob("*.png"))
    Image.new("RGB", (32, 32), "white").save(paths[3])
    paths[5].write_bytes(b"no image")
    real = predictor.outputs_of

    def overflowing(network: Any, images: torch.Tensor, dtype: Any) -> torch.Tensor:
        one_colour = images.flatten(2).std(dim=2).amax(dim=1) < 1e-6
        return torch.where(one_colour[:, None], torch.nan, real(network, images, dtype))

    monkeypatch.setattr(predictor, "outputs_of", overflowing)
    done = stages.predict(run, [pictures], out=tmp_path / "table.json", batch_size=16)
    rows = json.loads(done.table.read_text(), parse_constant=pytest.fail)
    assert [place for place, row in enumerate(rows) if row["problem"]] == [3, 5]
    assert rows[3]["problem"] == "the network gives numbers for it that are not finite"
    assert {rows[3][name] for name in rows[3]} - {rows[3]["path"], rows[3]["problem"]} == {None}
    assert done.kept
    kept = drift.read_kept(done.kept)
    assert (done.problems, kept.problems) == (2, 2)
    assert {one.images for one in kept.figures.values()} == {len(paths) - 2}


def test_what_was_fitted_for_other_classes_is_refused(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    fitted_of(run).model_copy(update={"task": "multiclass", "levels": (0.1,) * 3}).save(tmp_path / "run")
    with pytest.raises(
        DataError, match=r"a level for each of 2 classes, and are 3 levels\. Evaluate the run"
    ):
        stages.predict(Run(tmp_path / "run"), split="val", out=tmp_path / "table.parquet")


def test_a_registered_model_predicts_when_its_run_and_data_are_gone(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pq.read_table(stages.predict(run, [pictures], out=tmp_path / "run.parquet").table)
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "home"))
    shutil.copytree(run.folder, tmp_path / "home" / "runs" / "run")
    models.promote("colon", models.register(references.find("run"), "colon").number, why="test", by="test")
    shutil.rmtree(tmp_path / "home" / "runs" / "run")
    packed = Path(str(run.read().packed))
    packed.rename(tmp_path / "away")
    try:
        done = stages.predict(references.find("colon"), [pictures], out=tmp_path / "model.parquet")
    finally:
        (tmp_path / "away").rename(packed)
    assert pq.read_table(done.table).equals(expected)
    assert references.of_folder(references.find("colon@1").folder).id == "colon@1"
    assert drifting.look(references.find("colon")).images == len(expected)


def test_a_version_of_a_model_is_read_alone_and_never_written_to(
    run: Run,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "home"))
    shutil.copytree(run.folder, tmp_path / "home" / "runs" / "run")
    version = models.register(references.find("run"), "colon")
    before = sorted(version.folder.rglob("*"))
    found = references.find("colon@1")
    kept = stages.predict(found, [pictures], out=tmp_path / "first.csv").kept
    assert kept
    assert kept.parent == tmp_path / "home" / "models" / "colon" / "predictions" / "0001"
    assert sorted(version.folder.rglob("*")) == before
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("no folder can be made here")
    with caplog.at_level("INFO", "histoflow"):
        assert stages.predict(found, [pictures], out=tmp_path / "second.csv").kept is None
    assert "second.csv is written, but drift cannot be told from it" in caplog.text
    assert (tmp_path / "second.csv").read_text() == (tmp_path / "first.csv").read_text()


def test_images_that_cannot_be_used_become_rows_and_are_counted(
    run: Run, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "a.png").write_bytes(b"no image")
    Image.new("RGB", (9, 12)).save(pictures / "b.png")
    with caplog.at_level("INFO", "histoflow"):
        done = stages.predict(run, [pictures], out=tmp_path / "table.parquet")
    rows = {Path(row["path"]).name: row for row in pq.read_table(done.table).to_pylist()}
    assert done.problems == 2
    assert rows["a.png"]["problem"].startswith("it is no JPEG")
    assert rows["b.png"]["problem"].startswith("it is 9×12 pixels with 3 channels after preprocessing")
    assert rows["b.png"]["confidence"] is None
    assert rows["0000.png"]["problem"] is None
    assert f"2 of {done.images} images have no prediction" in caplog.text


def test_images_of_another_size_altogether_are_an_error_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "large" / "a.png")
    with pytest.raises(DataError, match=r"of the training images' size.*40×40.*trained on 32×32"):
        stages.predict(run, [tmp_path / "large"], out=tmp_path / "table.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["large"]


def test_an_image_is_preprocessed_as_the_training_images_were(tmp_path: Path) -> None:
    experiment = small_experiment(
        preprocess=[{"name": "resize", "size": 16}], training={"epochs": 1, "batch_size": 32}
    )
    run = trained(experiment, "resized")
    Image.effect_mandelbrot((32, 32), (-2, -2, 2, 2), 9).convert("RGB").save(tmp_path / "a.png")
    done = stages.predict(run, [tmp_path / "a.png"], out=tmp_path / "table.parquet")
    assert done.problems == 0


def test_what_is_asked_wrongly_is_told_before_anything_is_done(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table.parquet"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"images": [pictures], "tta": "mirror"}, "tta must be one of none, flips, dihedral. Got mirror"),
        ({"images": [pictures], "batch_size": 0}, "at least 1. Got 0"),
        ({"split": "test"}, "one of train, val. Got test. The test split is sealed"),
        (
            {"images": [pictures], "out": tmp_path / "table.xlsx"},
            r"one of .parquet, .csv, .json, .jsonl\. Got",
        ),
        ({}, "either image files and folders, or a split"),
        ({"images": [pictures], "split": "val"}, "either image files and folders, or a split"),
    ]
    for asked, message in wrong:
        with pytest.raises(UserError, match=message):
            stages.predict(run, **({"out": out} | asked))
    assert not out.exists()
    out.write_text("the former one")
    with pytest.raises(UserError, match=r"exists\. Name another, or allow it to be replaced \(--overwrite\)"):
        stages.predict(run, split="val", out=out)
    stages.predict(run, split="val", out=out, overwrite=True)
    assert pq.read_table(out).num_rows


def test_a_run_that_was_never_trained_is_told(tmp_path: Path) -> None:
    run = stages.start(small_experiment(), "untrained")
    with pytest.raises(RunError, match="Run untrained was never trained. Train it first"):
        stages.predict(run, [tmp_path], out=tmp_path / "table.parquet")


def test_right_angles_are_only_for_square_images(evaluated: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated / "runs" / "run", tmp_path / "run")
    run = Run(tmp_path / "run")
    packed = shutil.copytree(store_of(run).folder, tmp_path / "packed")
    manifest = packed / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"size": [32, 24]}))
    run.update(packed=str(packed))
    with pytest.raises(UserError, match="dihedral only where images are square.*Got 24×32"):
        stages.predict(run, split="val", out=tmp_path / "table.parquet", tta="dihedral")


def test_batches_too_large_for_the_memory_go_through_in_parts(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = predictor.outputs_of, []

    def short_of_memory(network: Any, images: torch.Tensor, dtype: Any) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 5:
            raise torch.OutOfMemoryError
        return real(network, images, dtype)

    plain = stages.predict(run, [pictures], out=tmp_path / "plain.parquet")
    monkeypatch.setattr(predictor, "outputs_of", short_of_memory)
    parted = stages.predict(run, [pictures], out=tmp_path / "parted.parquet", batch_size=16)
    assert sizes[:3] == [16, 8, 4]
    assert sizes[3:].count(16) == 0, "what did not fit once is not tried again"
    found = [probabilities(pq.read_table(done.table)) for done in (plain, parted)]
    assert np.allclose(*found, atol=1e-6)

    monkeypatch.setattr(predictor, "outputs_of", lambda *_: _out_of_memory())
    with pytest.raises(DeviceMemoryError, match="Not even one image fits"):
        stages.predict(run, [pictures], out=tmp_path / "never.parquet")
    assert not list(tmp_path.glob("*never*"))


def _out_of_memory() -> torch.Tensor:
    raise torch.OutOfMemoryError
