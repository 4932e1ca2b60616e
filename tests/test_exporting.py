"""What ``histoflow export`` writes: each form says what the run's network says, and tells nothing else."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exported import evaluated_run, export_to, source
from histoflow import stages
from histoflow.bundles import bundle
from histoflow.bundles.exporting import Wanted, export, export_run
from histoflow.bundles.loading import load_model
from histoflow.components import Loss, Task
from histoflow.data.store import PackedStore
from histoflow.engine import exchange
from histoflow.errors import BundleError, CheckpointError, UserError
from histoflow.evaluation import fitting, predictions
from histoflow.evaluation.fitting import Fitted
from histoflow.registry import installed
from histoflow.runs import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every form, unpacked beside itself."""
    path = export_to(tmp_path_factory.mktemp("whole") / "patches.histoflow", forms=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.parent)
    return path


def validation() -> tuple[Tensor, np.ndarray[Any, Any]]:
    """All packed validation images, and the calibrated probabilities that the evaluation kept of them."""
    run = evaluated_run()
    split = PackedStore(Path(str(run.read().packed))).split("val")
    fitted = fitting.load(run.folder)
    assert fitted is not None
    kept = predictions.load(run.folder, predictions.VALIDATION)
    return torch.from_numpy(split.gather(np.arange(len(split)))), fitted.calibrated(kept.probabilities)


@pytest.mark.parametrize(("name", "run_form"), [("onnx", exchange.run_onnx), ("pt2", exchange.run_program)])
def test_each_form_says_of_every_validation_image_what_the_evaluation_kept(
    whole: Path, name: str, run_form: Any
) -> None:
    images, expected = validation()
    path = whole.with_name(f"model.{name}")
    for size in (1, 5, len(images)):
        found = run_form(path, images[:size]).numpy()
        assert found.shape == (size, 2)
        assert np.abs(found - expected[:size]).max() < 1e-6
    form = bundle.open_bundle(whole).manifest.forms[path.name]
    assert 0 <= form.largest_difference < 1e-6
    assert (form.images, form.checked_on) == (len(images), "validation images")


def test_the_manifest_tells_what_the_run_tells(whole: Path) -> None:
    run = evaluated_run()
    manifest = bundle.open_bundle(whole).manifest
    metrics = run.metrics()
    assert metrics is not None
    assert manifest.model == metrics["model"]
    assert {name: figure.value for name, figure in manifest.figures.items()} == {
        name: score["value"] for name, score in metrics["scores"].items()
    }
    assert list(manifest.figures["roc_auc"].interval or ()) == metrics["scores"]["roc_auc"]["interval"]
    assert manifest.test_images == metrics["images"]
    assert manifest.fitted == fitting.load(run.folder)
    assert manifest.data["fingerprint"] == run.read().data_fingerprint
    assert [part.name for part in manifest.preprocess] == ["resize"]
    assert manifest.requires == {"histoflow": ">=0.1.0,<0.2"}


def test_a_bundle_is_one_plain_zip_file_that_says_how_to_use_it(whole: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        assert set(archive.namelist()) == {
            "manifest.json", "weights.safetensors", "model.onnx", "model.pt2", "README.md",
        }  # fmt: skip
        readme = archive.read("README.md").decode()
    assert 'histoflow.load_model("patches-run.histoflow")' in readme
    assert "N × 24 × 24 × 3" in readme
    assert len(readme.splitlines()) < 25


def test_a_bundle_tells_no_path_of_this_machine(whole: Path) -> None:
    content = whole.read_bytes()
    for place in (evaluated_run().folder.parent.parent, Path(bundle.__file__).parent, Path.home()):
        assert str(place).encode() not in content


def test_an_onnx_file_tells_its_classes_and_where_it_comes_from(whole: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(whole.with_name("model.onnx"), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    manifest = bundle.open_bundle(whole).manifest
    assert json.loads(told["histoflow.classes"]) == list(manifest.classes)
    assert told["histoflow.model"] == manifest.model
    assert session.get_inputs()[0].shape[1:] == [24, 24, 3]


def test_a_model_card_goes_along(tmp_path: Path) -> None:
    run = Run(shutil.copytree(evaluated_run().folder, tmp_path / "run"))
    (run.folder / "MODEL_CARD.md").write_text("# What it is for")
    path = export_to(tmp_path / "a.histoflow", run)
    assert bundle.open_bundle(path).read("MODEL_CARD.md") == b"# What it is for"


def test_a_run_without_an_evaluation_has_neither_figures_nor_calibration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(shutil.copytree(evaluated_run().folder, tmp_path / "run"))
    (run.folder / "metrics.json").unlink()
    (run.folder / "fitted.json").unlink()
    with caplog.at_level("INFO", "histoflow"):
        model = load_model(export_to(tmp_path / "a.histoflow", run))
    assert "was not evaluated since it was trained" in caplog.text
    assert model.manifest.figures == {}
    found = model.predict(np.zeros((1, 24, 24, 3), np.uint8))
    assert found.sets is None
    assert (found.probabilities == found.raw).all()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.7])
def test_a_graph_is_calibrated_as_the_run_is(task: Task, temperature: float) -> None:
    outputs = torch.tensor([[-60.0, 2.0], [0.0, 0.1], [4.0, -1.0], [30.0, 31.0]])
    link = torch.sigmoid if task == "multilabel" else lambda given: given.softmax(dim=1)
    graph = exchange.Graph(
        _Says(outputs), link, [0.5], [0.25], temperature, several=task == "multilabel"
    )  # fmt: skip
    found = graph(torch.zeros((4, 3, 3, 1), dtype=torch.uint8)).double().numpy()
    fitted = Fitted(model="", task=task, images=9, temperature=temperature)
    assert np.allclose(found, fitted.calibrated(link(outputs.double()).numpy()), atol=1e-6)


def test_each_form_holds_what_one_output_and_several_labels_mean(tmp_path: Path) -> None:
    """A network of either kind, in one program as writing one takes a second."""
    loss = installed().get(Loss, "bce")
    link, terms = partial(loss.probabilities, loss.params()), ([0.5] * 3, [0.25] * 3, 1.7)
    networks = [nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, outputs)) for outputs in (1, 3)]
    one, several = networks
    both = _Both(
        exchange.Graph(one, link, *terms, several=False), exchange.Graph(several, link, *terms, several=True)
    )
    program = exchange.traced(both, (8, 8, 3))
    exchange.write_program(program, tmp_path / "model.pt2")
    exchange.write_onnx(program, tmp_path / "model.onnx", {})
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8))
    floats = (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    told = [link(network(floats).detach().double()).numpy() for network in networks]
    tasks: tuple[Task, ...] = ("binary", "multilabel")
    fitted = [Fitted(model="", task=task, images=9, temperature=1.7) for task in tasks]
    expected = np.hstack([fit.calibrated(said) for fit, said in zip(fitted, told, strict=True)])
    assert expected.shape == (5, 2 + 3)
    for run_form, name in ((exchange.run_program, "model.pt2"), (exchange.run_onnx, "model.onnx")):
        for size in (1, 5):
            found = run_form(tmp_path / name, images[:size]).detach().numpy()
            np.testing.assert_allclose(found, expected[:size], atol=1e-6)


class _Both(nn.Module):
    """The probabilities of one graph, then those of the other."""

    def __init__(self, *graphs: exchange.Graph) -> None:
        super().__init__()
        self.graphs = nn.ModuleList(graphs)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([graph(images) for graph in self.graphs], dim=1)


class _Says(nn.Module):
    """Whatever it sees."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs


class _LooksFirst(nn.Module):
    """What it does hangs on what it sees, which no graph can hold."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1) if float(mean.sum()) > 0 else torch.zeros(len(images), 2)


class _DiffersWhenExported(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        sign = -1 if torch.compiler.is_exporting() else 1
        return torch.stack([sign * mean, -mean], dim=1)


@pytest.mark.parametrize(
    ("network", "forms", "message"),
    [
        (_LooksFirst(), {}, r"cannot be brought into the form of torch.export.*--no-onnx --no-torch-export"),
        (_DiffersWhenExported(), {}, r"model\.pt2 must say what the run's network says.*--no-torch-export"),
        (_DiffersWhenExported(), {"torch_export": False}, r"model\.onnx must say what.*--no-onnx"),
        (
            _DiffersWhenExported(),
            {"torch_export": False, "onnx": False},
            r"weights\.safetensors must say what.*each time that it is built",
        ),
    ],
)
def test_what_would_say_something_else_is_not_written(
    tmp_path: Path, network: nn.Module, forms: dict[str, bool], message: str
) -> None:
    out = tmp_path / "a.histoflow"
    with pytest.raises(BundleError, match=message):
        export(replace(source(), network=network), Wanted(out=out, **forms))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_done_is_told_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / "taken.histoflow"
    taken.write_text("the former one")
    with pytest.raises(UserError, match=r"taken\.histoflow exists\. Name another.*--overwrite"):
        Wanted(out=taken)
    with pytest.raises(UserError, match="must be a file"):
        Wanted(out=tmp_path)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(BundleError, match=r"pip install 'histoflow\[onnx\]', or leave .* out: --no-onnx"):
        Wanted(out=tmp_path / "new.histoflow")
    Wanted(out=tmp_path / "new.histoflow", onnx=False)


def test_a_run_without_a_checkpoint_is_told(tmp_path: Path) -> None:
    run = Run(shutil.copytree(evaluated_run().folder, tmp_path / "run"))
    shutil.rmtree(run.checkpoints)
    wanted = Wanted(out=tmp_path / "a.histoflow", onnx=False, torch_export=False)
    with pytest.raises(CheckpointError, match="no checkpoint to export. Train it first"):
        export_run(stages.experiment_of(run), run, wanted, installed())
    assert not wanted.out.exists()
